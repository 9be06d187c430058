"""Decides whether a copied table may have missed changes, by comparing its catalog fingerprint then and now.

The stream carries row changes of tables that are in the publication at that moment, nothing else. Other changes leave
traces in the catalog: OIDs are never given to another table, a file is replaced when rows are rewritten without row
messages, and `xmin` of a catalog row changes with every ALTER, also with one that is taken back. Freezing leaves it.
"""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A relation that holds rows of the table: the table itself, or a leaf partition of it."""

    oid: int
    #: `pg_class.relfilenode`: replaced by TRUNCATE, VACUUM FULL, CLUSTER and an ALTER that rewrites.
    filenode: int
    #: Where it stands below the root: bounds and `xmin` of `pg_inherits` on the way; empty for the table itself.
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Catalog state of a table and its publication that no stream carries."""

    oid: int
    is_partitioned: bool
    #: `xmin` of the table's row type: it changes when the table is renamed, moved to another schema, or given away.
    row_type: str
    #: How many column numbers were ever given (`relnatts`), those of dropped and generated columns included.
    column_count: int
    #: By OID.
    leaves: tuple[Leaf, ...]
    #: OIDs and `xmin` of the publication's row and of the rows that make the table a member; None when it is no member.
    membership: str | None
    #: Whether it is a member by its own row: then a rename or a move does not end the membership.
    is_listed: bool = True
    #: `p` when the changes of every relation of the table are in the log: none is unlogged or a foreign table.
    persistence: str = "p"
    #: Digest of `xmin` of the columns' rows: it changes with every ALTER of a column, also one that computes values.
    columns: str = ""
    #: Updates and deletes that the server has counted in a table of which it publishes none; None for other tables.
    unpublished_writes: int | None = None
    #: The condition of the rows that are published, as SQL; None for all.
    row_filter: str | None = None
    #: The numbers of the columns that are published, as text; None for all.
    column_list: str | None = None
    #: Digest of the replica identity of each relation: a table may be refused for it.
    identity: str = ""
    #: Digest of the masks of columns, and of their salt; None when nothing is masked.
    mask: str | None = None
    #: Whether the server would refuse its updates and deletes if they were published.
    is_unidentified: bool = False
    #: The OID of its TOAST table, which TRUNCATE keeps and every other rewrite replaces; 0 for none, or when not known.
    toast: int = 0
    #: What decides the text of values of user-defined types: by OID, the labels of enums and the attributes of composite
    #: types.
    type_texts: tuple[tuple[str, str], ...] = ()
    #: When the server's counts of writes were reset last; empty when `unpublished_writes` is None.
    counted_since: str = ""
    #: `xmin` of the row of its schema, which a rename of the schema changes; empty when not known.
    namespace: str = ""
    #: Digest of who owns that schema and may use it, which change its `xmin` as well.
    namespace_rights: str = ""
    #: The timeline of the source's log that the table's changes were read from; 0 when that is not known.
    timeline: int = field(default=0, compare=False)

    @property
    def definition(self) -> "Fingerprint":
        """The same without what the table's own rows change."""
        return replace(self, leaves=(), unpublished_writes=None, counted_since="", toast=0)

    @property
    def storage(self) -> dict[int, int]:
        """The file of each relation that holds rows."""
        return {leaf.oid: leaf.filenode for leaf in self.leaves}

    def counted_as(self, other: "Fingerprint") -> "Fingerprint":
        """Return the same with the other's counts of unpublished writes."""
        return replace(self, unpublished_writes=other.unpublished_writes, counted_since=other.counted_since)

    def is_selected_as(self, other: "Fingerprint") -> bool:
        """Return whether the same rows and columns are published as there, with the same masks.

        A renamed column changes the text of a filter.
        """
        if self.mask != other.mask:
            return False
        selection = (self.row_filter, self.column_list)
        return self.membership == other.membership or selection == (other.row_filter, other.column_list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafChanges:
    """Leaf partitions that came, went, or were rewritten without row messages."""

    #: To be copied: attached, or in another file than before.
    changed: tuple[Leaf, ...]
    #: Dropped, detached, or in another place than before; as they were.
    gone: tuple[Leaf, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)

    def __str__(self) -> str:
        return (
            f"{len(self.changed)} partitions were attached or rewritten, {len(self.gone)} dropped, detached or moved, "
            "of which the stream carries nothing"
        )


def missed_changes_reason(before: Fingerprint, now: Fingerprint, *, follows_oid: bool) -> str | None:
    """Return why changes of the table may have been missed between the two, as a clause; None if none were missed.

    `follows_oid`: whether the engine knows a table by its OID, so that it reads on while the table has another name.
    """
    is_moved = now.row_type != before.row_type and not (follows_oid and now.is_listed)
    is_computed = before.columns != "" != now.columns != before.columns and is_rewritten(before, now)
    reasons = (
        (now.oid != before.oid, "it was dropped at the source, and another table has its name"),
        (now.membership is None, "it is not in the publication"),
        (now.mask != before.mask, "its columns are masked in another way than before, or with another salt"),
        (not now.is_selected_as(before), "other rows or columns of it are published than before"),
        (now.membership != before.membership, "it was not in the publication all the time, or the publication was altered"),
        (is_moved, "it was renamed, moved or given to another owner for a moment"),
        (not follows_oid and _may_have_been_elsewhere(before, now), "its schema was renamed for a moment"),
        (_may_have_been_unlogged(before, now), "its rows were written to another file, maybe while it was unlogged"),
        (is_computed, "an ALTER rewrote its rows, maybe with other values"),
        (_has_other_texts(before, now), "a label or attribute of a type was altered: older rows have other values"),
    )
    return next((reason for is_so, reason in reasons if is_so), None) or unpublished_writes_reason(before, now)


def unpublished_writes_reason(before: Fingerprint, now: Fingerprint) -> str | None:
    """Return why unpublished updates or deletes may have been missed, as a clause; None if the server counted none.

    Nothing is known of writes from before the counts were reset, by `pg_stat_reset` or by a crash.
    """
    if now.unpublished_writes is None:
        return None
    counted = before.unpublished_writes or 0
    # A fingerprint from an earlier version does not say when the counts were reset. Those of a dropped partition are gone.
    is_smaller = now.unpublished_writes < counted and before.storage.keys() <= now.storage.keys()
    if before.counted_since not in ("", now.counted_since) or is_smaller:
        return "the counts of its updates and deletes, which are not published without a replica identity, were reset"
    if now.unpublished_writes > counted:
        return "rows were updated or deleted, which is not published of a table without a replica identity"
    return None


def _may_have_been_elsewhere(before: Fingerprint, now: Fingerprint) -> bool:
    """Return whether the table's schema may have had another name: it was altered, and nobody's rights explain that."""
    return before.namespace not in ("", now.namespace) and before.namespace_rights == now.namespace_rights


def _may_have_been_unlogged(before: Fingerprint, now: Fingerprint) -> bool:
    """Return whether the table may have been unlogged for a while, which the server allows unless it is listed."""
    return not now.is_listed and not now.is_partitioned and is_rewritten(before, now)


def _has_other_texts(before: Fingerprint, now: Fingerprint) -> bool:
    """Return whether values of a type have another text now. A label or type that is new has no values before."""
    texts = dict(now.type_texts)
    return any(texts.get(oid, text) != text for oid, text in before.type_texts)


def leaf_changes(before: Fingerprint, now: Fingerprint, *, ignores_dropped: bool = False) -> LeafChanges:
    """Return what happened to the leaf partitions of one table. `ignores_dropped`: without `gone`."""
    if not now.is_partitioned:
        return LeafChanges(changed=(), gone=())
    old, new = {leaf.oid: leaf for leaf in before.leaves}, {leaf.oid: leaf for leaf in now.leaves}
    return LeafChanges(
        changed=tuple(leaf for leaf in now.leaves if old.get(leaf.oid) != leaf),
        gone=()
        if ignores_dropped
        else tuple(leaf for leaf in before.leaves if leaf.oid not in new or new[leaf.oid].place != leaf.place),
    )


def is_filled_with_null(number: int, before: Fingerprint, now: Fingerprint) -> bool:
    """Return whether rows from before a column without a missing value certainly hold NULL in it.

    Certain while no row was rewritten since `before`, and the column's number was given since: a column that was generated
    has values although it looks new.
    """
    return number > before.column_count and not is_rewritten(before, now)


def is_rewritten(before: Fingerprint, now: Fingerprint) -> bool:
    """Return whether rows may have been rewritten without row changes, as by an `ALTER` that computes values.

    `TRUNCATE`, which is in the stream, keeps the TOAST table; everything else that replaces a file replaces that as well.
    """
    is_truncated = before.toast == now.toast != 0
    return not is_truncated and any(now.storage.get(oid, filenode) != filenode for oid, filenode in before.storage.items())
