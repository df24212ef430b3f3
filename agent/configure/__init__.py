"""From what a guest is asked to be to libvirt elements: one concern a module, applied in a fixed order."""
