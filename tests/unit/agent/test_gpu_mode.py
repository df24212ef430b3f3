"""All GPUs of a node work in one mode, whichever framework their drivers have, also after crashes and reboots."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.devices.source import MdevSource, PciSource
from agent.errors import (
    DeviceFailed,
    DeviceWithheld,
    GpuInUse,
    GpuModeUnsupported,
    HypervisorUnavailable,
    RequestInvalid,
)
from tests.unit.agent.device_kernel import (
    A100,
    DEVICE,
    DOMAIN,
    FOREIGN,
    OTHER_DEVICE,
    T4,
    VIRTUAL,
    PowerFailure,
    Rig,
    add_a100,
    add_a100_functions,
    add_split_t4,
    list_mdevs,
    read_type,
    reboot,
    set_type,
    wish,
)

OTHER_T4 = "0000:5e:00.0"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def add_t4(rig: Rig, address: str = T4, *, driver: str = "nvidia", group: int = 42) -> None:
    """Without vGPUs; its types are there when its driver is."""
    rig.node.add_t4(address, driver=driver, driver_override="", group=group)
    for type_id, name, most in (("nvidia-222", "GRID T4-1B", 16), ("nvidia-223", "GRID T4-2B", 8)):
        rig.node.add_mdev_type(address, type_id, name, mib=1024, most=most, available=most)
    types = rig.node.machine.root / f"devices/{rig.node.paths[address]}/mdev_supported_types"
    hidden = types.with_name("types-without-a-driver")
    bind = rig.kernel.bind

    def bind_with_types(one: str, name: str) -> None:
        bind(one, name)
        if one == address and name == "nvidia" and hidden.exists():
            hidden.rename(types)
        if one == address and name != "nvidia" and types.exists():
            types.rename(hidden)

    rig.kernel.bind = bind_with_types  # type: ignore[method-assign,assignment]
    if driver != "nvidia":
        types.rename(hidden)


def add_sriov_gpu(rig: Rig, *, driver: str = "nvidia") -> None:
    add_a100(rig.node, enabled=False, driver=driver)
    rig.kernel.virtual_functions[A100] = lambda: add_a100_functions(rig.node)


class TestMediated:
    """GPUs like a T4."""

    async def test_one_type_is_offered_then_none(self, rig: Rig) -> None:
        add_t4(rig)
        assert await rig.keeper.set_gpu_mode("nvidia-223") == [T4]
        gpu = await rig.find(T4)
        assert (gpu.attributes["mode"], gpu.attributes["vgpu_type"], gpu.shareable) == ("vgpu", "nvidia-223", True)
        assert [one.id for one in gpu.vgpu_types] == ["nvidia-223"]
        assert rig.notices == 1
        assert await rig.keeper.set_gpu_mode("passthrough") == [T4]
        gpu = await rig.find(T4)
        assert (gpu.attributes["mode"], gpu.shareable, list(gpu.vgpu_types)) == ("passthrough", False, [])
        assert "vgpu_type" not in gpu.attributes
        assert (gpu.withheld_reason, gpu.details["driver"]) == ("", "nvidia")
        assert await rig.keeper.prepare(DOMAIN, wish(T4)) == PciSource((T4,))

    async def test_only_that_type_is_made(self, rig: Rig) -> None:
        add_t4(rig)
        await rig.keeper.set_gpu_mode("nvidia-223")
        with pytest.raises(DeviceWithheld, match="makes nvidia-223 now"):
            await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-222"))
        assert await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-223")) == MdevSource(DEVICE)

    async def test_a_gpu_is_taken_from_vfio(self, rig: Rig) -> None:
        add_t4(rig, driver="vfio-pci")
        assert (await rig.find(T4)).attributes["mode"] == "passthrough"
        assert await rig.keeper.set_gpu_mode("nvidia-222") == [T4]
        assert (await rig.find(T4)).details["driver"] == "nvidia"
        assert rig.node.machine.sysfs.read(f"bus/pci/devices/{T4}/driver_override") == ""

    async def test_a_type_that_no_gpu_makes_changes_nothing(self, rig: Rig) -> None:
        add_t4(rig, driver="vfio-pci")
        with pytest.raises(GpuModeUnsupported, match="there is passthrough, nvidia-222, nvidia-223"):
            await rig.keeper.set_gpu_mode("nvidia-999")
        gpu = await rig.find(T4)
        assert (gpu.details["driver"], gpu.attributes["mode"]) == ("vfio-pci", "passthrough")
        rig.start()
        assert rig.modes.mode.mode == ""

    async def test_after_a_wrong_type_the_former_one_still_counts(self, rig: Rig) -> None:
        add_t4(rig)
        await rig.keeper.set_gpu_mode("nvidia-223")
        with pytest.raises(GpuModeUnsupported):
            await rig.keeper.set_gpu_mode("nvidia-999")
        rig.start()
        assert (await rig.find(T4)).attributes["vgpu_type"] == "nvidia-223"


class TestVendorVfio:
    """GPUs like an A100 or an L40."""

    async def test_virtual_functions_come_and_go(self, rig: Rig) -> None:
        add_sriov_gpu(rig)
        assert await rig.keeper.set_gpu_mode("nvidia-471") == [A100]
        gpu = await rig.find(A100)
        assert (gpu.attributes["vgpu_type"], gpu.vgpu_types[0].available_instances) == ("nvidia-471", 4)
        assert await rig.keeper.set_gpu_mode("passthrough") == [A100]
        gpu = await rig.find(A100)
        assert (gpu.attributes["mode"], gpu.withheld_reason, gpu.details["sriov_enabled"]) == ("passthrough", "", "0")

    async def test_a_full_gpu_still_has_its_mode(self, rig: Rig) -> None:
        add_sriov_gpu(rig)
        await rig.keeper.set_gpu_mode("nvidia-471")
        for address in VIRTUAL:
            rig.node.machine.write(f"bus/pci/devices/{address}/nvidia/creatable_vgpu_types", "ID : vGPU Name")
            set_type(rig.node, address, 471)
        gpu = await rig.find(A100)
        assert (gpu.attributes["vgpu_type"], [one.available_instances for one in gpu.vgpu_types]) == ("nvidia-471", [0])
        assert await rig.keeper.set_gpu_mode("nvidia-471") == [A100]

    async def test_a_type_that_no_gpu_makes_leaves_no_virtual_functions(self, rig: Rig) -> None:
        add_sriov_gpu(rig, driver="vfio-pci")
        with pytest.raises(GpuModeUnsupported, match="nvidia-471, nvidia-472"):
            await rig.keeper.set_gpu_mode("nvidia-223")
        gpu = await rig.find(A100)
        assert (gpu.details["driver"], gpu.details["sriov_enabled"]) == ("vfio-pci", "0")

    async def test_the_mode_survives_a_reboot(self, rig: Rig) -> None:
        add_sriov_gpu(rig)
        await rig.keeper.set_gpu_mode("nvidia-471")
        await rig.keeper.prepare(DOMAIN, wish(A100, vgpu_type_id="nvidia-471"))
        reboot(rig)
        assert (await rig.find(A100)).withheld_reason.startswith("is to be split into nvidia-471")
        rig.domains = {DOMAIN: [f"pci {VIRTUAL[0]}"]}
        await rig.keeper.restore()
        assert [read_type(rig.node, address) for address in VIRTUAL] == [471, 0, 0, 0]
        gpu = await rig.find(A100)
        assert (gpu.attributes["mode"], gpu.withheld_reason) == ("vgpu", "")


class TestBoth:
    """A node with several models."""

    async def test_a_type_counts_for_the_gpus_that_make_it(self, rig: Rig) -> None:
        add_t4(rig)
        add_t4(rig, OTHER_T4, group=43)
        add_sriov_gpu(rig)
        assert await rig.keeper.set_gpu_mode("nvidia-222") == [T4, OTHER_T4]
        assert "vgpu_type" not in (await rig.find(A100)).attributes

    async def test_gpus_of_other_models_are_free_to_be_used(self, rig: Rig) -> None:
        add_t4(rig)
        add_sriov_gpu(rig, driver="vfio-pci")
        await rig.keeper.set_gpu_mode("nvidia-222")
        gpu = await rig.find(A100)
        assert (gpu.details["driver"], gpu.details["sriov_enabled"], gpu.withheld_reason) == ("vfio-pci", "0", "")
        await rig.keeper.prepare(DOMAIN, wish(A100))
        assert await rig.keeper.set_gpu_mode("nvidia-222") == [T4]

    async def test_passthrough_is_for_all(self, rig: Rig) -> None:
        add_t4(rig)
        add_sriov_gpu(rig)
        assert await rig.keeper.set_gpu_mode("passthrough") == [T4, A100]
        assert [gpu.attributes["mode"] for gpu in await rig.discover("gpu")] == ["passthrough", "passthrough"]

    async def test_the_hosts_own_display_is_left_out(self, rig: Rig) -> None:
        add_t4(rig)
        rig.node.machine.write(f"bus/pci/devices/{T4}/boot_vga", 1)
        with pytest.raises(GpuModeUnsupported, match="has no GPU"):
            await rig.keeper.set_gpu_mode("nvidia-222")


class TestInUse:
    """What guests have keeps its mode."""

    async def test_a_vgpu_of_a_guest_and_one_of_somebody_else(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        add_t4(rig, OTHER_T4, group=43)
        await rig.keeper.prepare(DOMAIN, wish(OTHER_T4, vgpu_type_id="nvidia-222"))
        rig.domains = {DOMAIN: [f"mdev {DEVICE}"]}
        for mode in ("passthrough", "nvidia-223"):
            with pytest.raises(GpuInUse) as caught:
                await rig.keeper.set_gpu_mode(mode)
            assert f"{T4}: vGPU {FOREIGN} exists" in caught.value.message
            assert f"{OTHER_T4}: used by domain vm-01" in caught.value.message
        assert (list_mdevs(rig.node), list_mdevs(rig.node, OTHER_T4)) == ([FOREIGN], [DEVICE])
        assert rig.modes.mode.mode == ""

    async def test_a_gpu_that_a_guest_has_as_a_whole(self, rig: Rig) -> None:
        add_sriov_gpu(rig)
        await rig.keeper.set_gpu_mode("passthrough")
        await rig.keeper.prepare(DOMAIN, wish(A100))
        with pytest.raises(GpuInUse, match=f"given to domain {DOMAIN}"):
            await rig.keeper.set_gpu_mode("nvidia-471")
        rig.domains = {DOMAIN: [f"pci {A100}"]}
        with pytest.raises(GpuInUse, match="used by domain vm-01"):
            await rig.keeper.set_gpu_mode("nvidia-471")
        assert rig.kernel.writes == []

    async def test_a_virtual_function_of_a_person(self, rig: Rig) -> None:
        add_a100(rig.node)
        set_type(rig.node, VIRTUAL[1], 472)
        with pytest.raises(GpuInUse, match=VIRTUAL[1]):
            await rig.keeper.set_gpu_mode("passthrough")
        assert read_type(rig.node, VIRTUAL[1]) == 472

    async def test_the_mode_that_they_have_is_no_change(self, rig: Rig) -> None:
        add_t4(rig)
        await rig.keeper.set_gpu_mode("nvidia-222")
        await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-222"))
        await rig.keeper.prepare(DOMAIN, wish(T4, OTHER_DEVICE, vgpu_type_id="nvidia-222"))
        assert await rig.keeper.set_gpu_mode("nvidia-222") == [T4]

    async def test_without_libvirt_nobody_knows(self, rig: Rig) -> None:
        add_t4(rig)
        rig.domains = None
        with pytest.raises(HypervisorUnavailable):
            await rig.keeper.set_gpu_mode("passthrough")


class TestInterrupted:
    """What was begun is ended."""

    @pytest.mark.parametrize("again", ["call", "start"])
    async def test_a_refusal_in_the_middle(self, rig: Rig, again: str) -> None:
        add_t4(rig, driver="vfio-pci")
        add_sriov_gpu(rig)
        rig.kernel.refusals["sriov_numvfs"] = errno.EIO
        with pytest.raises(DeviceFailed):
            await rig.keeper.set_gpu_mode("nvidia-471")
        assert {gpu.withheld_reason for gpu in await rig.discover("gpu")} == {
            "is to be split into nvidia-471, which its driver does not do now",
            "",  # a T4 that its driver splits into something else
        }
        rig.kernel.refusals.clear()
        if again == "call":
            assert await rig.keeper.set_gpu_mode("nvidia-471") == [A100]
        else:
            rig.start()
            await rig.keeper.restore()
        assert (await rig.find(A100)).attributes["vgpu_type"] == "nvidia-471"

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("former", ["passthrough", "nvidia-471"])
    async def test_a_power_failure_at_every_step(self, tmp_path: Path, moment: str, former: str) -> None:
        wanted = "nvidia-471" if former == "passthrough" else "passthrough"
        failures = 0
        for step in range(20):
            home = tmp_path / str(step)
            home.mkdir()
            rig = Rig(home)
            add_sriov_gpu(rig, driver="vfio-pci")
            await rig.keeper.set_gpu_mode(former)
            rig.fail_at(**{moment: step})
            try:
                await rig.keeper.set_gpu_mode(wanted)
            except PowerFailure:
                failures += 1
            else:
                break
            rig.fail_at()
            rig.start()
            await rig.keeper.restore()
            gpu = await rig.find(A100)
            is_old = (moment, step) == ("before", 0)
            mode = former if is_old else wanted
            assert gpu.attributes["mode"] == ("passthrough" if mode == "passthrough" else "vgpu")
            assert await rig.keeper.set_gpu_mode(wanted) == [A100]
            assert gpu.withheld_reason == ""
        assert failures >= 3

    async def test_a_gpu_that_fails_keeps_no_other_from_its_mode_after_a_reboot(self, rig: Rig) -> None:
        add_t4(rig)
        add_sriov_gpu(rig)
        types = rig.node.machine.root / f"devices/{rig.node.paths[T4]}/mdev_supported_types"
        (types / "nvidia-222").rename(types / "nvidia-471")  # both make it
        assert await rig.keeper.set_gpu_mode("nvidia-471") == [T4, A100]
        reboot(rig)
        rig.kernel.bind(T4, "vfio-pci")
        rig.kernel.refusals[f"{T4}/driver_override"] = errno.EIO
        await rig.keeper.restore()
        assert (await rig.find(A100)).attributes["mode"] == "vgpu"
        assert (await rig.find(T4)).withheld_reason.startswith("is to be split")

    async def test_what_a_person_does_afterwards_is_not_undone(self, rig: Rig) -> None:
        add_sriov_gpu(rig)
        await rig.keeper.set_gpu_mode("passthrough")
        add_a100_functions(rig.node)
        await rig.start().restore()
        assert rig.kernel.writes == []

    async def test_a_restore_does_not_touch_what_guests_have(self, rig: Rig) -> None:
        add_a100(rig.node, enabled=False)
        await rig.keeper.set_gpu_mode("passthrough")
        add_a100_functions(rig.node)  # somebody enables them by hand
        set_type(rig.node, VIRTUAL[0], 471)
        await rig.start().restore()
        assert read_type(rig.node, VIRTUAL[0]) == 471

    async def test_a_file_that_cannot_be_read_is_kept(self, rig: Rig) -> None:
        path = rig.directory / "journal/gpu-mode.json"
        path.write_text("{")
        rig.start()
        assert (rig.modes.mode.mode, path.with_suffix(".unreadable").read_text()) == ("", "{")


@pytest.mark.parametrize("mode", ["", "no type", "../x", "x" * 65])
async def test_what_is_no_mode_is_refused(rig: Rig, mode: str) -> None:
    add_t4(rig)
    with pytest.raises(RequestInvalid, match="mode"):
        await rig.keeper.set_gpu_mode(mode)
