"""``/api/v1/nodes``: read nodes."""

from __future__ import annotations

from fastapi import APIRouter

from executor_manager.api.schemas import NodeList, NodeView
from executor_manager.api.services import Injected

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"])


@router.get("")
async def list_nodes(services: Injected) -> NodeList:
    """Every executor that has ever registered, by name."""
    return NodeList(nodes=[NodeView.of(node) for node in await services.store.nodes.all()])
