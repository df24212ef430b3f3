"""What authentication costs, and how long it is remembered."""

from sqlalchemy import event

from coordinator.domain.caller import Caller, Role
from coordinator.domain.expiring_cache import ExpiringCache
from coordinator.runtime import Runtime
from coordinator.services.credential import authenticate, create_token

OPERATOR = Caller("tok-of-the-tests", Role.OPERATOR)


def test_known_caller_costs_no_statement(runtime: Runtime) -> None:
    header = f"Bearer {create_token(runtime, OPERATOR, name='x', role=Role.OPERATOR).secret}"
    authenticate(runtime, header)
    statements: list[str] = []
    event.listen(
        runtime.database.engine, "before_cursor_execute", lambda *arguments: statements.append(str(arguments[2]))
    )
    authenticate(runtime, header)
    assert statements == []


def test_caller_who_is_forgotten_costs_no_second_write(runtime: Runtime) -> None:
    header = f"Bearer {create_token(runtime, OPERATOR, name='x', role=Role.OPERATOR).secret}"
    authenticate(runtime, header)
    runtime.callers.forget_all()
    statements: list[str] = []
    event.listen(
        runtime.database.engine, "before_cursor_execute", lambda *arguments: statements.append(str(arguments[2]))
    )
    authenticate(runtime, header)
    assert [statement.split()[0] for statement in statements if statement != "BEGIN"] == ["SELECT"]


def test_cache_forgets_in_time_and_when_it_is_full() -> None:
    now = [0.0]
    cache: ExpiringCache[int] = ExpiringCache(life_seconds=5, maximum_size=2, clock=lambda: now[0])
    cache.put("a", 1)
    now[0] = 5.0
    assert cache.get("a") == 1
    now[0] = 5.1
    assert cache.get("a") is None
    cache.put("b", 2)
    cache.put("c", 3)
    assert [cache.get(key) for key in ("b", "c")] == [None, 3]
