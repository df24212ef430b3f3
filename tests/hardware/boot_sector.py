"""Boot sectors that speak: what a guest writes to its serial port proves what it has, a few seconds after its start.

Machine code of our own for the first sectors of a disk, in real mode, beside it the instructions in AT&T's order.
"""

from __future__ import annotations

import re
from typing import Final

_SECTOR_BYTES: Final = 512
_SIGNATURE: Final = b"\x55\xaa"
_READY: Final = "watching"
# Of the frames that it sends, in the order of the wire; IEEE keeps it for experiments.
ETHER_TYPE: Final = bytes.fromhex("88b5")
_SEEN: Final = re.compile(r"^([0-9a-f]{4}) ([0-9a-f]{8})$", re.MULTILINE)
_NOTHING: Final = "ffffffff"

# Writes the text behind it to COM1 and stands still.
_SPEAKER: Final = bytes.fromhex(
    "fa"  # start: cli
    "31c0"  # xor ax,ax
    "8ed8"  # mov ax,ds
    "be227c"  # mov text,si
    "ac"  # next: lods ds:(si),al
    "84c0"  # test al,al
    "7412"  # je done
    "88c4"  # mov al,ah
    "bafd03"  # wait: mov 0x3fd,dx
    "ec"  # in (dx),al
    "a820"  # test 0x20,al
    "74f8"  # je wait
    "baf803"  # mov 0x3f8,dx
    "88e0"  # mov ah,al
    "ee"  # out al,(dx)
    "ebe9"  # jmp next
    "f4"  # done: hlt
    "ebfd"  # jmp done
)
# Tells what speakers the disks of its machine have, then reads the identity of every PCI function of bus 0, and of the
# first four slots of buses 1 to 31, a few times a second, and writes those that have changed as "bbdd ppppvvvv": bus,
# device and function, product, vendor. It lets go of what it is asked for by ACPI, as an operating system does. Source:
# QEMU's docs/specs/acpi_pci_hotplug, q35.
_WATCHER: Final = bytes.fromhex(
    "fa"  # start: cli
    "31c0"  # xor ax,ax
    "8ed8"  # mov ax,ds
    "8ec0"  # mov ax,es
    "8ed0"  # mov ax,ss
    "bc007c"  # mov 0x7c00,sp
    "fc"  # cld
    "b80102"  # mov 0x201,ax
    "bb007e"  # mov 0x7e00,bx
    "b90200"  # mov 0x2,cx
    "30f6"  # xor dh,dh
    "cd13"  # int 0x13
    "be267d"  # mov 0x7d26,si
    "ac"  # greet: lods ds:(si),al
    "84c0"  # test al,al
    "7405"  # je disks
    "e8f200"  # call put
    "ebf6"  # jmp greet
    "b80020"  # disks: mov 0x2000,ax
    "8ec0"  # mov ax,es
    "bd8000"  # mov 0x80,bp
    "55"  # disk: push bp
    "89ea"  # mov bp,dx
    "b90100"  # mov 0x1,cx
    "31db"  # xor bx,bx
    "b80102"  # mov 0x201,ax
    "cd13"  # int 0x13
    "5d"  # pop bp
    "7219"  # jb other
    "26813e2000ebfd"  # cmpw 0xfdeb,es:0x20
    "7510"  # jne other
    "be2200"  # mov 0x22,si
    "268a04"  # tell: mov es:(si),al
    "46"  # inc si
    "84c0"  # test al,al
    "7405"  # je other
    "e8c100"  # call put
    "ebf3"  # jmp tell
    "45"  # other: inc bp
    "81fd9000"  # cmp 0x90,bp
    "75d0"  # jne disk
    "fa"  # cli
    "b80010"  # mov 0x1000,ax
    "8ec0"  # mov ax,es
    "31ff"  # xor di,di
    "66b8ffffffff"  # mov 0xffffffff,eax
    "b90040"  # mov 0x4000,cx
    "fc"  # cld
    "66f3ab"  # rep stos eax,es:(di)
    "31db"  # sweep: xor bx,bx
    "660fb7c3"  # function: movzwl bx,eax
    "66c1e008"  # shl 0x8,eax
    "660d00000080"  # or 0x80000000,eax
    "baf80c"  # mov 0xcf8,dx
    "66ef"  # out eax,(dx)
    "bafc0c"  # mov 0xcfc,dx
    "66ed"  # in (dx),eax
    "89df"  # mov bx,di
    "c1e702"  # shl 0x2,di
    "26663b05"  # cmp es:(di),eax
    "7427"  # je same
    "26668905"  # mov eax,es:(di)
    "6650"  # push eax
    "89d8"  # mov bx,ax
    "b90400"  # mov 0x4,cx
    "66c1e010"  # shl 0x10,eax
    "e85700"  # call hex
    "b020"  # mov 0x20,al
    "e86700"  # call put
    "6658"  # pop eax
    "b90800"  # mov 0x8,cx
    "e84a00"  # call hex
    "b00a"  # mov 0xa,al
    "e85a00"  # call put
    "e84001"  # call address
    "43"  # same: inc bx
    "84ff"  # test bh,bh
    "7409"  # je below
    "f6c320"  # test 0x20,bl
    "7404"  # je below
    "30db"  # xor bl,bl
    "fec7"  # inc bh
    "f6c71f"  # below: test 0x1f,bh
    "75a3"  # jne function
    "84db"  # test bl,bl
    "759f"  # jne function
    "31db"  # xor bx,bx
    "660fb7c3"  # bus: movzwl bx,eax
    "bad00c"  # mov 0xcd0,dx
    "66ef"  # out eax,(dx)
    "bac40c"  # mov 0xcc4,dx
    "66ed"  # in (dx),eax
    "6685c0"  # test eax,eax
    "7405"  # je kept
    "bac80c"  # mov 0xcc8,dx
    "66ef"  # out eax,(dx)
    "43"  # kept: inc bx
    "f6c320"  # test 0x20,bl
    "74e2"  # je bus
    "fb"  # sti
    "b90400"  # mov 0x4,cx
    "f4"  # rest: hlt
    "e2fd"  # loop rest
    "fa"  # cli
    "e972ff"  # jmp sweep
    "66c1c004"  # hex: rol 0x4,eax
    "6650"  # push eax
    "240f"  # and 0xf,al
    "3c0a"  # cmp 0xa,al
    "1c69"  # sbb 0x69,al
    "2f"  # das
    "e80500"  # call put
    "6658"  # pop eax
    "e2ec"  # loop hex
    "c3"  # ret
    "50"  # put: push ax
    "bafd03"  # mov 0x3fd,dx
    "ec"  # full: in (dx),al
    "a820"  # test 0x20,al
    "74fb"  # je full
    "58"  # pop ax
    "baf803"  # mov 0x3f8,dx
    "ee"  # out al,(dx)
    "c3"  # ret
)
# Its second sector, at 0x7e00. It has a virtual function of igb that firmware has given memory reset by its mailbox,
# and tells the address ("mac:52:...") with which the driver of the card answers. It asks again and again: a request is
# lost when the card's link comes up meanwhile. Then the function sends a frame to everybody, without a tag: by a ring
# of eight descriptors at 0x600, the first one for 60 bytes at 0x700. Source: Linux's drivers/net/ethernet/intel/igbvf.
_VIRTUAL_FUNCTION: Final = bytes.fromhex(
    "bafc0c"  # address: mov 0xcfc,dx
    "66ed"  # in (dx),eax
    "663d8680ca10"  # cmp 0x10ca8086,eax
    "7563"  # jne none
    "baf80c"  # mov 0xcf8,dx
    "66ed"  # in (dx),eax
    "b010"  # mov 0x10,al
    "66ef"  # out eax,(dx)
    "bafc0c"  # mov 0xcfc,dx
    "66ed"  # in (dx),eax
    "6683e0f0"  # and 0xfffffff0,eax
    "744f"  # je none
    "6689c7"  # mov eax,edi
    "660f01164a7f"  # lgdtl 0x7f4a
    "0f20c0"  # mov cr0,eax
    "0c01"  # or 0x1,al
    "0f22c0"  # mov eax,cr0
    "bd0800"  # mov 0x8,bp
    "8ee5"  # mov bp,fs
    "24fe"  # and 0xfe,al
    "0f22c0"  # mov eax,cr0
    "bd4000"  # mov 0x40,bp
    "66b801000000"  # try: mov 0x1,eax
    "646766898700080000"  # mov eax,fs:0x800(edi)
    "6467668987400c0000"  # mov eax,fs:0xc40(edi)
    "66b900000400"  # mov 0x40000,ecx
    "6467668b87400c0000"  # wait: mov fs:0xc40(edi),eax
    "a810"  # test 0x10,al
    "7507"  # jne told
    "67e2f0"  # again: loopl wait
    "4d"  # dec bp
    "75cf"  # jne try
    "c3"  # none: ret
    "6467668b8700080000"  # told: mov fs:0x800(edi),eax
    "6685c0"  # test eax,eax
    "79eb"  # jns again
    "6467668b8704080000"  # mov fs:0x804(edi),eax
    "66a30607"  # mov eax,0x706
    "6467668b8708080000"  # mov fs:0x808(edi),eax
    "a30a07"  # mov ax,0x70a
    "b06d"  # mov 0x6d,al
    "e87afe"  # call put
    "b061"  # mov 0x61,al
    "e875fe"  # call put
    "b063"  # mov 0x63,al
    "e870fe"  # call put
    "be0607"  # mov 0x706,si
    "b03a"  # byte: mov 0x3a,al
    "e868fe"  # call put
    "ac"  # lods ds:(si),al
    "66c1e018"  # shl 0x18,eax
    "b90200"  # mov 0x2,cx
    "e848fe"  # call hex
    "81fe0c07"  # cmp 0x70c,si
    "75ea"  # jne byte
    "b00a"  # mov 0xa,al
    "e852fe"  # call put
    "baf80c"  # mov 0xcf8,dx
    "66ed"  # in (dx),eax
    "b004"  # mov 0x4,al
    "66ef"  # out eax,(dx)
    "bafc0c"  # mov 0xcfc,dx
    "66ed"  # in (dx),eax
    "0c06"  # or 0x6,al
    "66ef"  # out eax,(dx)
    "66b8ffffffff"  # mov 0xffffffff,eax
    "66a30007"  # mov eax,0x700
    "a30407"  # mov ax,0x704
    "c7060c0788b5"  # movw 0xb588,0x70c
    "66c706000600070000"  # movl 0x700,0x600
    "668326040600"  # andl 0x0,0x604
    "66c70608063c00302b"  # movl 0x2b30003c,0x608
    "66c7060c0600000f00"  # movl 0xf0000,0x60c
    "646766c7870038000000060000"  # movl 0x600,fs:0x3800(edi)
    "64676683a70438000000"  # andl 0x0,fs:0x3804(edi)
    "646766c7870838000080000000"  # movl 0x80,fs:0x3808(edi)
    "646766c7872838000000000002"  # movl 0x2000000,fs:0x3828(edi)
    "646766c7871838000001000000"  # movl 0x1,fs:0x3818(edi)
    "c3"  # ret
    "0f004a7f00000000"  # gdt: its own size and address, where the processor reads nothing
    "ffff00000092cf00"  # all memory
)


def make_speaker(text: str) -> bytes:
    """A boot sector that says `text`, and nothing else."""
    return _make(_SPEAKER, text)


def make_watcher() -> bytes:
    """Sectors that tell of the disks, the PCI functions and the addresses of virtual ones of the machine they boot."""
    return _make(_WATCHER, _READY) + _VIRTUAL_FUNCTION


def count_starts(serial: str) -> int:
    """How often a watcher has begun."""
    return serial.count(_READY)


def read_lines(serial: str) -> list[str]:
    """What the speakers on the disks say that a watcher has found at its last start, and addresses of cards."""
    return [line for line in _last_start(serial).splitlines() if line and not _SEEN.fullmatch(line)]


def read_functions(serial: str) -> list[str]:
    """ "vvvv:pppp" of each PCI function that a watcher sees now."""
    found = dict(_SEEN.findall(_last_start(serial)))
    return sorted(f"{one[4:]}:{one[:4]}" for one in found.values() if one != _NOTHING)


def _last_start(serial: str) -> str:
    return serial.replace("\r", "").rpartition(_READY)[2].lower()


def _make(code: bytes, text: str) -> bytes:
    content = code + text.encode() + b"\r\n\0"
    # No zeros, or it looks like an empty partition table.
    return content.ljust(_SECTOR_BYTES - len(_SIGNATURE), b"\xff") + _SIGNATURE
