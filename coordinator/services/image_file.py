"""Files of images as nodes fetch them."""

import os
from typing import BinaryIO

from coordinator.errors import CredentialsInvalid, ImageOffsetInvalid, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.store.tables import Image, Node


def open_for_node(runtime: Runtime, node_id: str, image_id: str, offset_bytes: int) -> BinaryIO:
    """The file of an active image, positioned at `offset_bytes`; the caller closes it.

    ResourceNotFound when there is no such image; ImageOffsetInvalid when the offset lies beyond the file's end.
    """
    with runtime.database.read() as session:
        if session.get(Node, node_id) is None:
            raise CredentialsInvalid(f"node {node_id} does not exist", f"节点{node_id}不存在")
        image = session.get(Image, image_id)
    # The id is looked up before it becomes part of a path.
    if image is None or image.deleted_at is not None or image.status != "Active":
        raise ResourceNotFound("image", image_id)
    try:
        file = (runtime.settings.images_dir / image.id).open("rb")
    except FileNotFoundError:
        raise ResourceNotFound("image", image_id) from None
    if offset_bytes > os.fstat(file.fileno()).st_size:
        file.close()
        raise ImageOffsetInvalid("offsetBytes", "lies beyond the end of the file", "超出文件末尾")
    file.seek(offset_bytes)
    return file
