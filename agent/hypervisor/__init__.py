"""libvirt: the only package that imports it. Plain values leave it, and no libvirtError."""
