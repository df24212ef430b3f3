"""A cloud on one machine: a coordinator, and hosts with libvirt and QEMU of their own, in namespaces."""
