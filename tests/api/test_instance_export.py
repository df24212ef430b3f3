"""Instances as a workbook: real Office Open XML, which is read here without the library that writes it."""

import io
import re
import zipfile
from datetime import datetime, timedelta
from typing import Any

import pytest
from httpx import Response
from lxml import etree

from coordinator.api.spreadsheet import write_workbook
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud

EXPORT = f"{INSTANCES}/export"
ALL = (
    "displayName,ecsId,department,resourceGroup,privateIp,status,az,vcpu,ram,flavor,payModel,cpuArch,eip,createTime,"
    "tenant"
)
# The reference's example.
FILTER: dict[str, Any] = {
    **dict.fromkeys(("vpcId", "subnetId", "privateIp", "eip", "flavorType", "flavor", "nodeName", "isLock"), ""),
    "displayName": "",
    "ecsId": "",
    "departmentId": "",
    "tenantId": "",
    "resourceGroupId": "",
    "status": ["Provisioning"],
    "az": ["AZ0"],
    "cpuArch": ["x86"],
    "vmLabels": "",
    "orderBy": "",
}
_SHEET = {"s": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def export(api: Api, body: dict[str, Any], language: str = "en") -> Response:
    headers = {"authorization": f"Bearer {api.token}", "x-regionid": "region0", "accept-language": language}
    answer: Response = api.client.post(EXPORT, json=body, headers=headers)
    return answer


def read(content: bytes) -> list[list[str | float | None]]:
    """The rows of the only sheet, cells that are absent as None."""
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        assert book.testzip() is None
        sheet = etree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    assert not sheet.xpath("//s:f", namespaces=_SHEET)
    found: Any = sheet.xpath("//s:row", namespaces=_SHEET)
    rows = [{cell.get("r")[0]: _value(cell) for cell in row} for row in found]
    return [[row.get(column) for column in rows[0]] for row in rows]


def _value(cell: Any) -> str | float:
    if cell.get("t") == "inlineStr":
        text = "".join(cell.itertext())
        return re.sub(r"_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)
    return float(cell.findtext("s:v", namespaces=_SHEET))


def test_a_table_has_the_wanted_columns_of_the_wanted_instances(
    customer: Api, stranger: Api, auditor: Api, cloud: Cloud
) -> None:
    made = customer.ok("POST", INSTANCES, cloud.order(displayName="web", vmLabels=[{"key": "team", "value": "a"}]))
    customer.ok("POST", INSTANCES, cloud.order(displayName="other"))
    answer = export(customer, {"exportItem": ALL, "filterParams": {**FILTER, "displayName": "WE"}}, "zh")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/vnd.openxmlformats")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert ".xlsx" in answer.headers["content-disposition"]
    headings, row = read(answer.content)
    assert headings[:5] == ["实例名称", "实例ID", "部门", "资源集", "私有IP"]
    shown = dict(zip(ALL.split(","), row, strict=True))
    moment = datetime(1899, 12, 30) + timedelta(days=float(shown.pop("createTime") or 0))
    assert abs(moment - datetime.fromisoformat(made["createdAt"]).replace(tzinfo=None)) < timedelta(seconds=1)
    assert shown == {
        "displayName": "web",
        "ecsId": made["ecsId"],
        "department": cloud.department.name,
        "resourceGroup": None,
        "privateIp": made["networkMappings"][0]["ipv4Address"],
        "status": "Provisioning",
        "az": "AZ0",
        "vcpu": 2,
        "ram": 4,
        "flavor": cloud.flavor.name,
        "payModel": "OnDemand",
        "cpuArch": "x86",
        "eip": None,
        "tenant": cloud.tenant.name,
    }
    for wanted, names in (
        ({"orderBy": "displayName"}, ["other", "web"]),
        ({"vmLabels": ["team"]}, ["web"]),
        ({"vmLabels": ["team=b"]}, []),
        ({"vmLabels": ["team=a"], "isLock": "false", "privateIp": str(shown["privateIp"])}, ["web"]),
        ({"status": ["Running", "Stopped"]}, []),
        ({"eip": "10.0.0.1"}, []),
    ):
        rows = read(export(auditor, {"exportItem": "displayName", "filterParams": wanted}).content)
        assert [name for [name] in rows] == ["Name", *names]
    assert len(read(export(stranger, {"exportItem": "ecsId,osInfo", "filterParams": {}}).content)) == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"filterParams": {}}, "exportItem"),
        ({"exportItem": " , ", "filterParams": {}}, "exportItem"),
        ({"exportItem": "ecsId,password", "filterParams": {}}, "'password'"),
        ({"exportItem": "ecsId"}, "filterParams"),
        ({"exportItem": "ecsId", "filterParams": {"isLock": "perhaps"}}, "filterParams.isLock"),
        ({"exportItem": "ecsId", "filterParams": {"status": {"a": 1}}}, "filterParams.status"),
        ({"exportItem": "ecsId", "filterParams": {"orderBy": "colour"}}, "orderBy"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(customer: Api, body: dict[str, Any], named: str) -> None:
    refused = customer.refused("POST", EXPORT, body)
    assert refused.code == "ECS.InvalidParameter"
    assert named in refused.message


def test_texts_stay_texts_and_long_tables_take_little_memory() -> None:
    texts = ["=1+1", "@SUM(A1)", "-2", "+3", "<r><t>x</t></r>", "a_x0041_b", "\x01 <&>", "http://a.b", "0123"]
    rows = ((text, number) for number in range(2000) for text in texts)
    with write_workbook("t", ["text", "number"], rows) as file:
        content = read(file.read())
    assert len(content) == 1 + 2000 * len(texts)
    seen = [row[0] for row in content[1 : 1 + len(texts)]]
    assert seen == [f" {text}" if text.startswith("<r>") else text for text in texts]
