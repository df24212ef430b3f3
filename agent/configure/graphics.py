"""The guest's screen over VNC, with the pointer that follows the viewer's."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.device import Controller
from agent.domainxml.display import Graphics, Input, Listen, Video, VideoModel
from agent.domainxml.domain import Domain
from protos.agent.v1.domain_pb2 import DomainSpec

# By itself it has four ports, one of them for the pointer; there is no more than this to be had.
USB_CONTROLLER = Controller("usb", 0, "qemu-xhci", ports=15)
# RFC 6143 takes the first 8 characters of a password; libvirt refuses a longer one.
_PASSWORD_LENGTH = 8


def configure_graphics(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Without `graphics` there is no screen; with an empty password there is one that lets nobody in."""
    if not spec.HasField("graphics"):
        return domain.with_devices(videos=(Video(VideoModel("none")),), controllers=(Controller("usb", 0, "none"),))
    server = Graphics(
        "vnc",
        port=-1,
        auto_port=True,
        password=spec.graphics.vnc_password[:_PASSWORD_LENGTH],
        listen=Listen("address", host.vnc_address),
    )
    return domain.with_devices(
        graphics=(server,),
        # The card that firmware and every installer can drive without a driver of its own.
        videos=(Video(VideoModel("vga")),),
        controllers=(USB_CONTROLLER,),
        inputs=(Input("tablet", "usb"),),
    )
