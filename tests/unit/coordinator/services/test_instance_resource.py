"""What instances take of their hosts, in the scheduler's words."""

import pytest

from coordinator.domain.device import DeviceType, DeviceWish
from coordinator.domain.unit import GIB
from coordinator.services.instance_resource import InstanceSize, make_consumer
from tests.builders import a_flavor, a_flavor_type

T4 = {"vendor": "10de", "product": "1eb8"}


def a_gpu(mode: str, **attributes: str) -> DeviceType:
    return DeviceType("gpu", frozenset({**T4, "mode": mode, **attributes}.items()), 0, shareable=mode == "vgpu")


def wishes(vgpu_type_id: str = "", gpu_type: str = "10de1eb8", count: int = 2) -> tuple[DeviceWish, ...]:
    flavor_type = a_flavor_type(gpu_type=gpu_type)
    flavor = a_flavor(flavor_type, gpu=count, vgpu_type_id=vgpu_type_id)
    return make_consumer("uuid", InstanceSize(2, 4 * GIB), flavor, flavor_type).devices


def test_a_whole_gpu_is_one_that_is_not_split() -> None:
    (wish,) = wishes()
    assert (wish.count, wish.milli) == (2, 1000)
    assert wish.accepts(a_gpu("passthrough"))
    assert not wish.accepts(a_gpu("vgpu"))
    assert not wish.accepts(a_gpu("passthrough", product="20b5"))


@pytest.mark.parametrize(("vgpu_type_id", "milli"), [("nvidia-222", 63), ("nvidia-234", 1000)])
def test_a_vgpu_is_a_share_of_one_that_is_split_even_when_it_is_all_of_it(vgpu_type_id: str, milli: int) -> None:
    for wish in wishes(vgpu_type_id):
        assert (wish.count, wish.milli) == (1, milli)
        assert wish.accepts(a_gpu("vgpu"))
        assert wish.accepts(a_gpu("vgpu", vgpu_type=vgpu_type_id))
        assert not wish.accepts(a_gpu("vgpu", vgpu_type="nvidia-223"))
        assert not wish.accepts(a_gpu("passthrough"))


def test_without_a_model_any_will_do() -> None:
    (wish,) = wishes(gpu_type="", count=1)
    assert wish.accepts(a_gpu("passthrough", vendor="1002", product="74a1"))
