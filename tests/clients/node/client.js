// Types what it reads into node-postgres and prints what the driver shows, a line of JSON each.
//
// Arguments: host, port, database, user, password. A line "connect MODE" opens a connection; any other line is a
// statement: base64 of its text, then for each parameter a tab, its kind (f, i, s) and base64.
"use strict";

const crypto = require("node:crypto");
const readline = require("node:readline");
const { Client } = require("pg");

const [host, port, database, user, password] = process.argv.slice(2);
const decode = (text) => Buffer.from(text, "base64").toString("utf8");
let client = null;
let mode = null;
let notices = [];

async function connect(wanted) {
  if (client !== null) await client.end();
  mode = wanted;
  client = new Client({ host, port: Number(port), database, user, password });
  client.on("notice", (notice) => notices.push(`${notice.severity}: ${notice.message}`));
  await client.connect();
  return {};
}

function configured(text, values) {
  const query = { text, rowMode: "array" };
  if (values.length > 0) query.values = values;
  if (mode === "extended") query.queryMode = "extended";
  if (mode === "named") query.name = crypto.createHash("sha256").update(text).digest("hex").slice(0, 32);
  return query;
}

async function execute(line) {
  const [text, ...given] = line.split("\t");
  const values = given.map((part) => (part[0] === "s" ? decode(part.slice(1)) : Number(decode(part.slice(1)))));
  notices = [];
  try {
    const result = await client.query(configured(decode(text), values));
    const shown = { tag: result.command, notices };
    if (result.fields.length > 0) {
      shown.columns = result.fields.map((field) => field.name);
      shown.rows = result.rows;
    }
    return shown;
  } catch (refused) {
    const position = refused.position === undefined ? null : Number(refused.position);
    return { sqlstate: refused.code ?? null, message: refused.message, position };
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const answer = line.startsWith("connect ") ? await connect(line.slice("connect ".length)) : await execute(line);
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  if (client !== null) await client.end();
}

main();
