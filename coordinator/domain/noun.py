"""What resources and quantities are called in Chinese."""

from typing import Final

_CHINESE: Final = {
    "BMC of node": "带外管理，节点",
    "department": "部门",
    "device": "设备",
    "USB device": "USB设备",
    "deployment set": "部署集",
    "enrolment token": "注册令牌",
    "flavor": "规格",
    "flavor type": "规格类型",
    "cell": "集群",
    "host": "物理机",
    "host group": "主机组",
    "image": "镜像",
    "instance": "实例",
    "launch template": "配置模板",
    "instance in the recycle bin": "回收站中的实例",
    "instances": "实例数量",
    "local disk": "本地盘",
    "memory in GiB": "内存（GiB）",
    "node": "节点",
    "operation": "操作",
    "port": "端口",
    "resource group": "资源组",
    "resource pool": "资源池",
    "scheduled task": "定时任务",
    "security group": "安全组",
    "SSH key": "密钥对",
    "SSH keys": "密钥对数量",
    "storage in GiB": "云盘容量（GiB）",
    "snapshot": "快照",
    "backup": "备份",
    "backup file": "备份文件",
    "snapshot policy": "自动快照策略",
    "subnet": "子网",
    "template version": "模板版本",
    "tenant": "租户",
    "token": "令牌",
    "vCPUs": "vCPU数量",
    "volume": "云盘",
    "volumes": "云盘数量",
    "webhook": "事件推送",
}


def in_chinese(noun: str) -> str:
    """The Chinese word; names of fields, and words such as VPC, are the same in both languages."""
    return _CHINESE.get(noun, noun)
