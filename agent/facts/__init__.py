"""What this node is, read from libvirt, psutil and udev; nothing here changes anything."""
