"""Space for volumes: pools, whichever nodes have them, and what is set aside in them."""

from sqlmodel import BigInteger, Field, SQLModel


class StoragePool(SQLModel, table=True):
    """One space: a file system, a volume group, a pool of Ceph. Nodes that share it tell of the same one.

    What is taken of it is what volumes have that name it (`Volume.storage_pool_id`), and what is reserved.
    """

    __tablename__ = "storage_pool"

    id: str = Field(primary_key=True, max_length=36)
    total_gib: int
    # As it was told last, for people: what guests have not written to yet is in it.
    free_gib: int
    # What volumes can take all together: without what others have there.
    usable_gib: int
    # Above every other pool's after each change that the scheduler should know of.
    generation: int = Field(default=0, index=True, sa_type=BigInteger)


class SpaceReservation(SQLModel, table=True):
    """Space for what is no volume there yet: moves, new disks of instances, guests of other schedulers."""

    __tablename__ = "space_reservation"

    consumer_uuid: str = Field(primary_key=True, max_length=36)
    pool_id: str = Field(primary_key=True, foreign_key="storage_pool.id", index=True, max_length=36)
    size_gib: int
