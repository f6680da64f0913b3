// The API's description as a page. What always holds: what the description says is shown as text and never as markup.

const ADDRESS = "/api/v1/federated/openapi.json";
const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 3;

/** An element with attributes and children; a string is a text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** What a schema stands for, where it only names another one. */
function resolve(schema, description) {
  const name = schema?.$ref?.split("/").pop();
  return name === undefined ? (schema ?? {}) : description.components.schemas[name];
}

/** A schema's type in a few words. */
function typeOf(schema, description) {
  const known = resolve(schema, description);
  const several = known.anyOf ?? known.oneOf;
  if (several) return several.map((one) => typeOf(one, description)).join(" or ");
  if (known.enum) return known.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (known.type === "array") return `list of ${typeOf(known.items, description)}`;
  return known.format ? `${known.type} (${known.format})` : (known.type ?? "anything");
}

/** The schema of an object somewhere in a list or a choice; undefined where there is none. */
function objectIn(schema, description) {
  const known = resolve(schema, description);
  if (known.properties) return known;
  const inner = known.items ? [known.items] : (known.anyOf ?? []);
  return inner.map((one) => objectIn(one, description)).find((one) => one !== undefined);
}

/** Rows of a table: name, type, what is said of it; the fields of an object below it. */
function* rowsOf(schema, description, prefix = "", depth = 0) {
  const known = objectIn(schema, description);
  for (const [name, field] of Object.entries(known?.properties ?? {})) {
    const said = [known.required?.includes(name) ? "required" : "", resolve(field, description).description ?? ""];
    yield [prefix + name, typeOf(field, description), said.filter((one) => one !== "").join("; ")];
    if (depth < DEEPEST) yield* rowsOf(field, description, `${prefix}${name}.`, depth + 1);
  }
}

/** A table with a heading; nothing where there are no rows. */
function table(title, rows) {
  if (rows.length === 0) return [];
  const head = element("tr", {}, ...["name", "type", ""].map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([name, type, said]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, type), element("td", {}, said)),
  );
  const fields = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return [element("h3", {}, title), element("div", { class: "fields", tabindex: "0" }, fields)];
}

function jsonOf(content) {
  return content?.["application/json"]?.schema;
}

/** One method of one path. */
function operation(path, method, said, description) {
  const parameters = (said.parameters ?? []).map((one) => [
    one.name,
    `${typeOf(one.schema, description)}, in ${one.in}`,
    one.description ?? one.schema?.description ?? "",
  ]);
  const answers = Object.entries(said.responses).filter(([status]) => status.startsWith("2"));
  return element(
    "details",
    {},
    element(
      "summary",
      {},
      element("code", {}, element("b", {}, method.toUpperCase()), path),
      element("span", {}, said.description ?? said.summary ?? ""),
    ),
    ...table("Parameters", parameters),
    ...table("Body", [...rowsOf(jsonOf(said.requestBody?.content), description)]),
    ...answers.flatMap(([status, answer]) => [
      element("h3", {}, `Answer ${status}: ${typeOf(jsonOf(answer.content) ?? { type: "no JSON" }, description)}`),
      ...table("Its fields", [...rowsOf(jsonOf(answer.content), description)]),
    ]),
  );
}

/** All operations, by what they are about. */
function sections(description) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const method of METHODS.filter((one) => methods[one] !== undefined)) {
      const group = methods[method].tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operation(path, method, methods[method], description));
    }
  }
  return [...groups].map(([group, made]) =>
    element("section", { "aria-label": group }, element("h2", {}, group.replaceAll("_", " ")), ...made),
  );
}

async function show() {
  const place = document.getElementById("paths");
  const answer = await fetch(ADDRESS, { credentials: "same-origin" });
  if (answer.status === 401 || answer.status === 403) {
    place.replaceChildren(element("p", {}, "Whoever may read sees the description: ", element("a", { href: "/" }, "log in"), "."));
  } else if (!answer.ok) {
    place.replaceChildren(element("p", {}, `The description cannot be had now (${answer.status}).`));
  } else {
    place.replaceChildren(...sections(await answer.json()));
  }
  place.removeAttribute("aria-busy");
}

await show();
