#!/bin/busybox sh
# The node image of tests/cluster/test_kind.py: in the place of systemd, kubeadm and the programs that kind calls in a
# node. Each is this file by another name. A node's images are the archives that were imported into it.
case "${0##*/}" in
entrypoint)
    busybox --install -s /bin
    mkdir -p /var/log/pods/kube-system_etcd-node_u1/etcd /var/images
    echo "2026-01-02T03:04:05Z stderr F etcd began" > /var/log/pods/kube-system_etcd-node_u1/etcd/0.log
    echo "Reached target Multi-User System."
    exec sleep 3600
    ;;
containerd)
    echo 'version = 3'
    echo '[plugins."io.containerd.cri.v1.images"]'
    echo 'snapshotter = "overlayfs"'
    ;;
ctr)
    cat > /var/images/archive.tar
    ;;
crictl) # the docker manifest of the archive names each image's config and tags
    printf '{"images": ['
    [ ! -f /var/images/archive.tar ] || tar -xOf /var/images/archive.tar manifest.json | tr '{' '\n' |
        sed -nE 's|.*"Config":"blobs/sha256/([0-9a-f]+)".*"RepoTags":(\[[^]]*\]).*|{"id":"sha256:\1","repoTags":\2,"size":"7"}|p' |
        sed '$!s/$/,/'
    echo ']}'
    ;;
sh) # busybox's tar has no such option
    case "$2" in "tar --hard-dereference"*) set -- -c "tar${2#tar --hard-dereference}" ;; esac
    exec busybox sh "$@"
    ;;
journalctl)
    echo "journal $*"
    ;;
kubectl)
    echo "'True'"
    ;;
esac
