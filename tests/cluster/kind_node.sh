#!/bin/busybox sh
# The node image of tests/cluster/test_kind.py: in the place of systemd, kubeadm and some programs that kind calls in a
# node. Each is this file by another name. containerd, ctr and crictl are the real ones.
case "${0##*/}" in
entrypoint)
    busybox --install -s /bin
    mkdir -p /var/log/pods/kube-system_etcd-node_u1/etcd
    echo "2026-01-02T03:04:05Z stderr F etcd began" > /var/log/pods/kube-system_etcd-node_u1/etcd/0.log
    containerd > /run/containerd.log 2>&1 &
    until [ -S /run/containerd/containerd.sock ]; do sleep 0.1; done
    echo "Reached target Multi-User System."
    wait
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
