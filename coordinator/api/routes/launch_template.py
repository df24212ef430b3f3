"""Launch templates."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.launch_template import (
    CreateTemplateRequest,
    DefaultVersionRequest,
    NewTemplateBody,
    RenameTemplateRequest,
    TemplateBody,
    TemplateDetailBody,
    TemplateIdsRequest,
    TemplateListBody,
    TemplateVersionBody,
    TemplateVersionListBody,
    UserDataRequest,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import launch_template as service

router = APIRouter(prefix="/api/ecs/v1/templates", tags=["templates"], route_class=IdempotentRoute)
instance_router = APIRouter(prefix="/api/ecs/v1/instances", tags=["templates"], route_class=IdempotentRoute)


@instance_router.post("/{ecs_id}/create-template", operation_id="createTemplate")
def create_template(
    ecs_id: str, body: CreateTemplateRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[NewTemplateBody]:
    """Creates a template of what an instance is like, without its passwords, addresses, host and host name."""
    template_id = service.create_template(runtime, caller, ecs_id, body.template_name, body.template_desc)
    return success(NewTemplateBody(template_id=template_id))


@router.get("", operation_id="listTemplates")
def list_templates(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    template_id: Annotated[str, Query(alias="templateId", description="Id of a template.")] = "",
    template_name: Annotated[str, Query(alias="templateName", max_length=255, description="Part of their names.")] = "",
    department_id: Annotated[str, Query(alias="departmentId", description="Department that they belong to.")] = "",
    resource_group_id: Annotated[
        str, Query(alias="resourceGroupId", description="Resource group that they belong to.")
    ] = "",
) -> Envelope[TemplateListBody]:
    """Lists the caller's templates, the newest first."""
    wanted = equal_to(templateId=template_id, departmentId=department_id, resourceGroupId=resource_group_id)
    query = ListQuery(page, like(templateName=template_name) + wanted + conditions, orderings)
    listing = service.list_templates(runtime, caller, query)
    return success(
        TemplateListBody(items=[TemplateBody.of(found) for found in listing.items], total_count=listing.total)
    )


@router.post("/batch-delete", operation_id="batchDeleteTemplates")
def batch_delete_templates(body: TemplateIdsRequest, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes templates with all their versions; none when one of them does not exist."""
    service.delete_templates(runtime, caller, body.template_id_list)
    return success(None)


@router.get("/{template_id}", operation_id="getTemplate")
def get_template(
    template_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    version: Annotated[int | None, Query(ge=1, description="The version to show; absent: the newest.")] = None,
) -> Envelope[TemplateDetailBody]:
    """Shows a template and what one of its versions orders."""
    return success(TemplateDetailBody.of_view(service.get_template(runtime, caller, template_id, version)))


@router.get("/{template_id}/versions", operation_id="listTemplateVersions")
def list_template_versions(
    template_id: str,
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
) -> Envelope[TemplateVersionListBody]:
    """Lists the versions of a template that are kept, the newest first."""
    query = ListQuery(page, conditions, orderings)
    template, listing = service.list_versions(runtime, caller, template_id, query)
    items = [TemplateVersionBody.of(template, row) for row in listing.items]
    return success(TemplateVersionListBody(items=items, total_count=listing.total))


@router.put("/{template_id}/default-version", operation_id="setDefaultTemplateVersion")
def set_default_version(
    template_id: str, body: DefaultVersionRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[None]:
    """Chooses the version that is ordered when none is named."""
    service.set_default_version(runtime, caller, template_id, body.version)
    return success(None)


@router.put("/{template_id}/name", operation_id="renameTemplate")
def rename_template(
    template_id: str, body: RenameTemplateRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[None]:
    """Gives a template another name."""
    service.rename_template(runtime, caller, template_id, body.template_name)
    return success(None)


@router.put("/{template_id}/userdata", operation_id="setTemplateUserData")
def set_template_user_data(
    template_id: str, body: UserDataRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[None]:
    """Makes a version with other user data, which becomes the default one unless an older one was chosen."""
    service.set_user_data(runtime, caller, template_id, body.user_data)
    return success(None)
