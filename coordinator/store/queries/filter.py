"""Conditions and orders of callers as SQL, over the fields that a noun declares."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, cast

from sqlalchemy import BigInteger, Boolean, ColumnElement, Select, func, literal, literal_column, select, union_all
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from coordinator.domain.listing import Comparison, Condition, Listing, ListQuery, Ordering, Page
from coordinator.errors import ParameterInvalid
from coordinator.store.column import UtcDateTime

Row = TypeVar("Row")
# A SELECT of any columns.
Statement: TypeAlias = Select[*tuple[Any, ...]]

# Both databases count in 64 bits.
_INTEGER_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Field:
    """Something that callers may filter by: its column or expression, and the type of its values.

    Values of a StrEnum are found whatever their case, by an index too.
    """

    column: Any
    kind: type = str
    # Texts of no enumeration that are compared whatever their case.
    ignore_case: bool = False
    # Where the column is another table's: what refers to its rows, and the column of theirs that is referred to.
    via: tuple[Any, Any] | None = None
    # Where rows may refer to several of them.
    links: "Links | None" = None
    # What rows are sorted by, where the column does not tell: an expression of one value a row.
    order: Any = None


@dataclass(frozen=True, slots=True)
class Links:
    """What binds rows to those of another table, where a column of theirs does not tell all."""

    # Of the rows that are searched.
    key: Any
    # Columns of one table each: what names such a row, and what refers to the other table's. An alias of the row's own
    # table is one of them.
    pairs: tuple[tuple[Any, Any], ...]


Fields = Mapping[str, Field]


def fields(**declared: Any) -> dict[str, Field]:
    """Fields by name: `fields(name=Flavor.name, status=Field(Instance.status, InstanceStatus))`.

    A bare column's values are of its own type. Callers write the names in camelCase or snake_case.
    """
    return {
        _fold(name): item if isinstance(item, Field) else Field(item, _kind_of(item)) for name, item in declared.items()
    }


def _kind_of(column: Any) -> type:
    if isinstance(column.type, UtcDateTime):
        return datetime
    kind: type = column.type.python_type
    return kind if kind in _PARSERS else str


def fetch_page(
    session: Session,
    statement: Statement,
    query: ListQuery,
    known: Fields,
    *,
    tie_break: Any,
    default: Iterable[Ordering] = (),
) -> Listing[Any]:
    """The page of `statement`'s rows that `query` asks for; `tie_break` makes the order total."""
    narrowed = where_conditions(statement, query.conditions, known)
    keys = _sort_keys(query.orderings or tuple(default), known)
    # In the direction of the last key: then an index that ends with it serves both directions.
    keys.append(_SortKey(tie_break, bool(keys) and keys[-1].descending))
    if query.page.offset == 0:
        rows = _fetch(session, narrowed, keys, query.page.size)
        # All of them are on a first page that is not full.
        return Listing(rows, len(rows) if len(rows) < query.page.size else _count(session, narrowed))
    total = _count(session, narrowed)
    return Listing(_fetch_later(session, narrowed, keys, query.page, total), total)


def _count(session: Session, narrowed: Statement) -> int:
    counted = narrowed.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    return cast("int", session.execute(counted).scalar_one())


def _fetch_later(
    session: Session, narrowed: Statement, keys: Sequence["_SortKey"], page: Page, total: int
) -> tuple[Any, ...]:
    """A page that is not the first, reached from the nearer end: what lies before it has to be passed over."""
    size = min(page.size, total - page.offset)
    if size <= 0:
        return ()
    after = total - page.offset - size
    if after >= page.offset:
        return _fetch(session, narrowed, keys, size, page.offset)
    return _fetch(session, narrowed, [key.reversed() for key in keys], size, after)[::-1]


def _fetch(
    session: Session, narrowed: Statement, keys: Iterable["_SortKey"], size: int, offset: int = 0
) -> tuple[Any, ...]:
    ordered = narrowed.order_by(*(key.clause for key in keys)).limit(size).offset(offset)
    return tuple(session.execute(ordered).all())


def fetch_rows_of(
    session: Session,
    statement: SelectOfScalar[Row],
    query: ListQuery,
    known: Fields,
    *,
    tie_break: Any,
    default: Iterable[Ordering] = (),
) -> Listing[Row]:
    """Like `fetch_page`, for a statement that selects one table's rows."""
    page = fetch_page(session, statement, query, known, tie_break=tie_break, default=default)
    return Listing(tuple(row[0] for row in page.items), page.total)


def where_conditions(statement: Statement, conditions: Iterable[Condition], known: Fields) -> Statement:
    """`statement` with all conditions; ParameterInvalid for a field or value that is none."""
    for condition in conditions:
        field = _field("filter", condition.field, known)
        found = _compare(condition, field)
        if field.via:
            found = _refers(condition, field, field.via, found)
        statement = statement.where(found)
    return statement


def _refers(
    condition: Condition, field: Field, via: tuple[Any, Any], found: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Whether the row refers to one of the other table's for which `found` holds."""
    reference, key = via
    rows = select(key).where(found)
    # One row at most: databases that know so begin with it.
    is_one = condition.comparison is Comparison.EQUAL and field.column.unique

    def names_one(column: Any) -> ColumnElement[bool]:
        return cast("ColumnElement[bool]", column == rows.scalar_subquery() if is_one else column.in_(rows))

    if field.links is None:
        return names_one(reference)
    # Not OR, for which no database uses the indexes of both.
    bound = (select(own).where(names_one(other)) for own, other in field.links.pairs)
    return cast("ColumnElement[bool]", field.links.key.in_(union_all(*bound)))


@dataclass(frozen=True, slots=True)
class _SortKey:
    """What is sorted by. Both databases put NULL at the other end when the direction is the other one."""

    column: Any
    descending: bool

    @property
    def clause(self) -> Any:
        return self.column.desc() if self.descending else self.column.asc()

    def reversed(self) -> "_SortKey":
        return _SortKey(self.column, not self.descending)


def _sort_keys(orderings: Iterable[Ordering], known: Fields) -> list[_SortKey]:
    keys = []
    for ordering in orderings:
        field = _field("orderBy", ordering.field, known)
        column = field.column
        if field.order is not None:
            column = field.order
        elif field.via:
            reference, key = field.via
            column = select(column).where(key == reference).scalar_subquery()
        keys.append(_SortKey(column, ordering.descending))
    return keys


def _field(parameter: str, name: str, known: Fields) -> Field:
    try:
        return known[_fold(name)]
    except KeyError:
        raise ParameterInvalid(parameter, f"unknown field {name!r}", f"不支持的字段{name!r}") from None


def _fold(name: str) -> str:
    return name.replace("_", "").casefold()


def _compare(condition: Condition, field: Field) -> ColumnElement[bool]:
    column = field.column
    if condition.comparison is Comparison.LIKE:
        return _contains(column, condition, field)
    values = [_parse(value, field.kind, condition.field) for value in condition.values]
    if field.ignore_case:
        column, values = func.lower(column), [str(value).lower() for value in values]
    match condition.comparison:
        case Comparison.EQUAL:
            found = column == values[0]
        case Comparison.NOT_EQUAL:
            found = column != values[0]
        case Comparison.IN:
            found = column.in_(values)
        case Comparison.GREATER:
            found = column > values[0]
        case _:
            found = column < values[0]
    return cast("ColumnElement[bool]", found)


def _contains(column: Any, condition: Condition, field: Field) -> ColumnElement[bool]:
    if not issubclass(field.kind, str):
        raise ParameterInvalid(
            "filter", f"{condition.field} is no text: lk does not apply", f"{condition.field}不是文本，不支持lk"
        )
    return contains(column, condition.values[0])


def contains(column: Any, part: str) -> ColumnElement[bool]:
    """Whether `part` occurs in the column, whatever its case; wildcards within `part` mean themselves."""
    # A scan with ESCAPE takes a tenth longer. PostgreSQL escapes by a backslash where nothing else is said.
    escape: list[ColumnElement[str]] = [literal_column("'/'")] if any(special in part for special in "/%_\\") else []
    for special in ("/", "%", "_"):
        part = part.replace(special, f"/{special}")
    return _LikeIgnoringCase(column, literal(f"%{part}%"), *escape)


class _LikeIgnoringCase(FunctionElement[bool]):
    """Column LIKE pattern, and ESCAPE where a third part says so.

    Without lower(), which SQLAlchemy would add: it takes longer than the rest of a scan.
    """

    type = Boolean()
    inherit_cache = True


@compiles(_LikeIgnoringCase)
def _write_like(element: Any, compiler: SQLCompiler, **options: Any) -> str:
    # SQLite's LIKE knows no case.
    operator = "ILIKE" if compiler.dialect.name == "postgresql" else "LIKE"
    column, pattern, *escape = (compiler.process(part, **options) for part in element.clauses)
    return f"({column} {operator} {' ESCAPE '.join([pattern, *escape])})"


def _parse(text: str, kind: type, name: str) -> Any:
    if issubclass(kind, StrEnum):
        return next((member.value for member in kind if member.lower() == text.lower()), text)
    try:
        return _PARSERS[kind](text)
    except (ValueError, KeyError, OverflowError):
        raise ParameterInvalid("filter", f"{name}: {text!r} is not acceptable", f"{name}的取值{text!r}不正确") from None


def _parse_int(text: str) -> ColumnElement[int]:
    number = int(text)
    if not -_INTEGER_LIMIT <= number < _INTEGER_LIMIT:
        raise ValueError(text)
    # Bound as what it is: PostgreSQL refuses a number that is wider than the column that it is compared with.
    return literal(number, BigInteger())


def _parse_moment(text: str) -> datetime:
    # "+" in a query string arrives as a space when it was not escaped.
    moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_PARSERS: dict[type, Any] = {
    str: str,
    int: _parse_int,
    bool: lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
    datetime: _parse_moment,
}
