"""What a superuser does to the audit log of a workspace, and what finds it out."""

from __future__ import annotations

# Computes every hash of a workspace's chains anew, in their order, and their ends.
REHASH = """
DO $$
DECLARE
    entry record;
    before bytea;
    place bigint;
    chain record;
BEGIN
    FOR chain IN SELECT DISTINCT a.workspace, a.origin FROM federated.audit AS a LOOP
        before := NULL;
        place := 0;
        UPDATE federated.audit SET chain_position = chain_position + 1000000
        WHERE (workspace, origin) = (chain.workspace, chain.origin);
        FOR entry IN SELECT a.audit_id FROM federated.audit AS a
            WHERE (a.workspace, a.origin) = (chain.workspace, chain.origin) ORDER BY a.chain_position
        LOOP
            place := place + 1;
            UPDATE federated.audit AS a SET chain_position = place, previous_hash = before,
                hash = federated._audit_hash(a, a.origin, place, before)
            WHERE a.audit_id = entry.audit_id RETURNING a.hash INTO before;
        END LOOP;
        INSERT INTO federated.audit_head VALUES (chain.workspace, chain.origin, place, before)
        ON CONFLICT (workspace, origin) DO UPDATE SET chain_position = place, hash = before;
    END LOOP;
END
$$;
"""
NO_HEADS = "DELETE FROM federated.cosignature; DELETE FROM federated.tree_head;"
OURS = "workspace = 'consortium'"


CHANGED = "UPDATE federated.audit SET {} WHERE " + OURS + " AND chain_position = 5;"
FORGED_ROLE = CHANGED.format("session_role = 'somebody_else'")
SWAP = "".join(
    f"UPDATE federated.{table} SET workspace = '{after}' WHERE workspace = '{before}';"
    for table in ("audit", "audit_head")
    for before, after in (("consortium", "aside"), ("another", "consortium"), ("aside", "another"))
)
SHIFT = (
    "UPDATE federated.audit SET chain_position = chain_position + 1000000 WHERE "
    + OURS
    + " AND chain_position {};"
)
ROLL_BACK = (
    "DELETE FROM federated.cosignature WHERE {o} AND tree_size > {n}; DELETE FROM federated.tree_head WHERE {o} AND tree_size > {n};"
    " DELETE FROM federated.audit WHERE {o} AND chain_position > {n};"
    " UPDATE federated.audit_head SET chain_position = {n}, hash = (SELECT a.hash FROM federated.audit AS a WHERE {o} AND a.chain_position = {n}) WHERE {o};"
)  # fmt: skip
FIRST_HEAD = "(SELECT min(tree_size) FROM federated.tree_head WHERE workspace = 'consortium')"

# What is done, the kinds of faults that must be among those found, and words of one of them.
ATTACKS: dict[str, tuple[str, set[str], str]] = {
    "a role is changed": (FORGED_ROLE, {"chain"}, "entry 5 is not what was recorded"),
    "details are changed": (CHANGED.format("details = '{}'"), {"chain"}, "entry 5 is not what was recorded"),
    "a time is changed": (CHANGED.format("recorded_at = recorded_at - interval '1 hour'"), {"chain"}, "entry 5"),
    "a transaction is changed": (CHANGED.format("transaction_id = '7'"), {"chain"}, "entry 5 is not what was recorded"),
    "the first entry is deleted": (
        f"DELETE FROM federated.audit WHERE {OURS} AND chain_position = 1;", {"chain", "held head"}, "entry 1 is missing"),
    "an entry is deleted": (
        f"DELETE FROM federated.audit WHERE {OURS} AND chain_position = 7;", {"chain", "held head"}, "entry 7 is missing"),
    "the end is cut off": (
        f"DELETE FROM federated.audit WHERE {OURS} AND chain_position > 9;", {"head", "held head"}, "are missing"),
    "the last entry is cut off, and the chain's end and heads with it": (
        ROLL_BACK.format(o=OURS, n=f"(SELECT max(tree_size) - 1 FROM federated.tree_head WHERE {OURS})"),
        {"held head"}, "1 entry at the end"),
    "all goes back to an old head, which is validly signed": (
        ROLL_BACK.format(o=OURS, n=FIRST_HEAD), {"held head"}, "entries at the end, which the head over"),
    "an entry is changed and its own hash fits": (
        FORGED_ROLE + " UPDATE federated.audit AS a SET hash = federated._audit_hash(a, a.origin, a.chain_position, a.previous_hash)"
        f" WHERE {OURS} AND chain_position = 5;", {"chain", "held head"}, "entry 6 does not follow"),
    "an entry is changed and the whole chain rewritten": (
        FORGED_ROLE + REHASH, {"head", "held head"}, "are not what its own head"),
    "the same, and all heads are deleted": (FORGED_ROLE + REHASH + NO_HEADS, {"held head"}, "are not what the head over"),
    "an entry is deleted and the rest moved up and rewritten": (
        f"DELETE FROM federated.audit WHERE {OURS} AND chain_position = 6;" + REHASH + NO_HEADS, {"held head"}, "are not what"),
    "an entry is put in the middle and the chain rewritten": (
        SHIFT.format("> 6") + " INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name,"
        " origin, chain_position, hash) SELECT workspace, 'x', 'x', 'insert', 'node', 'ghost', origin, 500000, hash"
        f" FROM federated.audit WHERE {OURS} AND chain_position = 2;" + REHASH + NO_HEADS, {"held head"}, "are not what"),
    "two entries change places and the chain is rewritten": (
        f"UPDATE federated.audit SET chain_position = 900000 WHERE {OURS} AND chain_position = 4;"
        f" UPDATE federated.audit SET chain_position = 4 WHERE {OURS} AND chain_position = 5;"
        f" UPDATE federated.audit SET chain_position = 5 WHERE {OURS} AND chain_position = 900000;" + REHASH + NO_HEADS,
        {"held head"}, "are not what"),
    "an entry is doubled and the chain rewritten": (
        SHIFT.format("> 6") + " INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name,"
        " details, recorded_at, origin, chain_position, hash) SELECT workspace, session_role, acting_role, action, object_kind, object_name,"
        f" details, recorded_at, origin, 500000, hash FROM federated.audit WHERE {OURS} AND chain_position = 6;"
        + REHASH + NO_HEADS, {"held head"}, "are not what"),
    "a person is taken out of all entries": (
        f"UPDATE federated.audit SET session_role = 'nobody', acting_role = 'nobody' WHERE {OURS};" + REHASH + NO_HEADS,
        {"held head"}, "entries 1 to"),
    "the chains of two workspaces are swapped": (SWAP, {"chain", "held head"}, "entry 1 is not what was recorded"),
    "the chains of two workspaces are swapped and rewritten": (SWAP + REHASH + NO_HEADS, {"held head"}, "missing"),
    "an entry is moved to another workspace": (
        f"UPDATE federated.audit SET workspace = 'another', chain_position = 999 WHERE {OURS} AND chain_position = 8;"
        + REHASH + NO_HEADS, {"held head"}, "are not what"),
    "the chain gets another origin": (
        "UPDATE federated.audit_origin SET origin = gen_random_uuid();"
        " UPDATE federated.audit SET origin = (SELECT o.origin FROM federated.audit_origin AS o);"
        " DELETE FROM federated.audit_head;" + REHASH + NO_HEADS, {"held head"}, "entries at the end"),
    "a dump that never was is said to have brought the old chain along": (
        "UPDATE federated.audit_origin SET origin = gen_random_uuid();"
        f" UPDATE federated.audit SET details = '{{}}' WHERE {OURS} AND chain_position = 3;" + REHASH + NO_HEADS
        + " UPDATE federated.node SET options = options || '{\"x\": 1}'; SET CONSTRAINTS ALL IMMEDIATE;",
        {"held head"}, "are not what"),
    "the root of a head is made to fit": (
        FORGED_ROLE + REHASH + "UPDATE federated.tree_head SET root = decode(repeat('ab', 32), 'hex');", {"head", "held head"}, "are not what"),
    "what was signed is altered": (
        "ALTER TABLE federated.cosignature DROP CONSTRAINT cosignature_workspace_origin_tree_size_fkey;"
        " UPDATE federated.tree_head SET statement = convert_to(replace(convert_from(statement, 'UTF8'), '\"tree_size\":1', '\"tree_size\":2'), 'UTF8')"
        f" WHERE {OURS};", {"head", "cosignature"}, "is not signed with the key of any coordinator"),
    "a signature is altered": (
        f"UPDATE federated.tree_head SET signature = set_byte(signature, 20, 255 - get_byte(signature, 20)) WHERE {OURS};", {"head"}, "is not signed"),
    "a cosignature is given to another node": (
        f"DELETE FROM federated.cosignature WHERE {OURS} AND node_name = 'south';"
        f" UPDATE federated.cosignature SET node_name = 'south' WHERE {OURS};", {"cosignature"}, "is not made with its key"),
    "a cosignature is put under another head": (
        f"DELETE FROM federated.cosignature WHERE {OURS} AND tree_size < (SELECT max(tree_size) FROM federated.tree_head WHERE {OURS});"
        f" UPDATE federated.cosignature SET tree_size = {FIRST_HEAD} WHERE {OURS};"
        f" DELETE FROM federated.tree_head WHERE {OURS} AND tree_size > {FIRST_HEAD};", {"cosignature"}, "cosigned a head that is not in the file"),
}  # fmt: skip


# What hides as retention, in a log whose first five entries were emptied for their age.
EMPTY = "session_role = '', acting_role = '', object_name = '', details = '{}'"
UNGUARDED = "SET LOCAL session_replication_role = replica;"
STUB = "UPDATE federated.retention_stub SET {};"
HIDDEN: dict[str, tuple[str, set[str], str]] = {
    "an entry outside the stub is emptied": (
        f"UPDATE federated.audit SET {EMPTY} WHERE {OURS} AND chain_position = 6;", {"chain"}, "entry 6 is not what was recorded"),
    "an emptied entry gets words again": (CHANGED.format("details = '{\"after\": {}}'"), {"chain"}, "entry 5 is not what was recorded"),
    "the stub is deleted": ("DELETE FROM federated.retention_stub;", {"chain"}, "entry 1 is not what was recorded"),
    "nobody signed the stub": (
        UNGUARDED + STUB.format("statement = NULL, signature = NULL, certificate = NULL"), {"stub", "chain"}, "not one of the audit log"),
    "the signature is another": (
        UNGUARDED + STUB.format("signature = set_byte(signature, 20, 255 - get_byte(signature, 20))"), {"stub", "chain"},
        "no coordinator that is known signed that entries 1 to 5 were emptied"),
    "the signed range is widened": (
        UNGUARDED + f"UPDATE federated.audit SET {EMPTY} WHERE {OURS} AND chain_position = 6;"
        + STUB.format("last_position = 6, entries = 6, statement = convert_to(replace(replace(convert_from(statement, 'UTF8'),"
        " '\"last_position\":5', '\"last_position\":6'), '\"entries\":5', '\"entries\":6'), 'UTF8')"), {"stub", "chain"},
        "no coordinator that is known signed that entries 1 to 6 were emptied"),
    "the row is widened and the statement stays": (
        UNGUARDED + f"UPDATE federated.audit SET {EMPTY} WHERE {OURS} AND chain_position = 6;"
        + STUB.format("last_position = 6, entries = 6, content_sha256 = (SELECT sha256(string_agg(a.hash, ''::bytea ORDER BY a.chain_position))"
        f" FROM federated.audit AS a WHERE {OURS} AND a.chain_position < 7)"), {"chain"}, "entry 6 is not what was recorded"),
    "emptied entries are made anew": (
        "SET CONSTRAINTS ALL IMMEDIATE;"
        f" UPDATE federated.audit SET action = 'insert', object_kind = 'model' WHERE {OURS} AND chain_position < 6;" + REHASH + NO_HEADS,
        {"stub", "held head"}, "entries 1 to 5 are not those that were emptied"),
    "an emptied entry is deleted": (
        f"DELETE FROM federated.audit WHERE {OURS} AND chain_position = 3;", {"chain", "stub", "held head"}, "entry 3 is missing"),
}  # fmt: skip
