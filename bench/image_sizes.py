"""How big each image is and what it is made of: `python bench/image_sizes.py` (builds what is not built yet)."""

import gzip
import json
import re
import tarfile
import tempfile
from pathlib import Path

from k8s_e2e.base.data import data_dir
from k8s_e2e.cluster import images, oci
from k8s_e2e.cluster.oci import BuiltImage
from k8s_e2e.model.profile import FILE_NAME, load_profile
from k8s_e2e.model.settings import Settings

MB = 1e6


def layers(image: BuiltImage) -> dict[str, tuple[str, float]]:
    """Return the layers of an image: digest -> where its files are, and its megabytes."""
    with tarfile.open(image.archive) as tar:
        config = json.loads(tar.extractfile(f"blobs/sha256/{image.digest[7:]}").read())  # type: ignore[union-attr]
        sizes = {member.name.rpartition("/")[2]: member.size / MB for member in tar}
    steps = [step["created_by"] for step in config.get("history", []) if not step.get("empty_layer")]
    found = {}
    for number, digest in enumerate(config["rootfs"]["diff_ids"]):
        place = re.search(r"(/\S*)\s*(# buildkit)?$", steps[number]) if steps else None
        found[digest] = (place[1] if place else "the program", sizes[digest[7:]])
    return found


def main() -> None:
    """Print the sizes."""
    settings = Settings()
    profile = load_profile(data_dir() / FILE_NAME)
    with tempfile.TemporaryDirectory() as scratch:
        built = images.build_images(profile, settings, logs=Path(scratch), progress=print)
        everything = [*built, *images.third_party_images(images.THIRD_PARTY, settings, print).values()]
        raw = oci.merge(everything, Path(scratch, "all.tar")).read_bytes()
    print(f"\n{'image':<42} {'MB':>6}  layers")
    for image in everything:
        parts = ", ".join(f"{place} {size:.1f}" for place, size in layers(image).values())
        print(f"{image.reference:<42} {image.bytes / MB:>6.1f}  {parts}")
    distinct = {digest for image in everything for digest in layers(image)}
    print(f"{'all in one archive':<42} {len(raw) / MB:>6.1f}  {len(distinct)} distinct layers")
    print(f"{'the same through gzip -6 (not used)':<42} {len(gzip.compress(raw, 6)) / MB:>6.1f}")


if __name__ == "__main__":
    main()
