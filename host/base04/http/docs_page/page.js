"use strict";

const packs = document.getElementById("packs");
const note = document.getElementById("note");
let credential = "";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function headers() {
  if (!credential) return {};
  return credential.startsWith("b04_") ? { "x-api-key": credential } : { authorization: `Bearer ${credential}` };
}

function resolved(schema, root) {
  for (let step = 0; step < 32 && schema && schema.$ref; step += 1) {
    const path = schema.$ref.slice(2).split("/").map((part) => part.replace(/~1/g, "/").replace(/~0/g, "~"));
    const { $ref, ...own } = schema;
    schema = { ...path.reduce((found, part) => (found || {})[part], root), ...own };
  }
  return schema || {};
}

function typeOf(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  const type = [schema.type || "any"].flat().join(" or ");
  return schema.format ? `${type} (${schema.format})` : type;
}

function rules(schema) {
  const known = ["default", "minLength", "maxLength", "minimum", "maximum", "pattern", "minItems", "maxItems"];
  return known.filter((key) => schema[key] !== undefined).map((key) => `${key} ${JSON.stringify(schema[key])}`).join(", ");
}

function parameterTable(schema, root) {
  const names = Object.keys(schema.properties || {});
  if (!names.length) return element("p", {}, "It takes no parameters.");
  const table = element("table", {}, element("tr", {},
    ...["parameter", "type", "", "description"].map((text) => element("th", {}, text))));
  for (const name of names) {
    const part = resolved(schema.properties[name], root);
    const needed = (schema.required || []).includes(name) ? "required" : "";
    table.append(element("tr", {},
      element("td", {}, element("code", {}, name)),
      element("td", {}, typeOf(part)),
      element("td", {}, [needed, rules(part)].filter(Boolean).join(", ")),
      element("td", {}, part.description || "")));
  }
  return table;
}

function sample(schema, root, depth = 0) {
  schema = resolved(schema, root);
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.examples && schema.examples.length) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  const type = [schema.type || "object"].flat()[0];
  if (type === "string") return "";
  if (type === "integer" || type === "number") return schema.minimum || 0;
  if (type === "boolean") return false;
  if (type === "array") return [];
  if (type === "null" || depth > 4) return null;
  const made = {};
  for (const name of schema.required || []) made[name] = sample((schema.properties || {})[name], root, depth + 1);
  return made;
}

async function run(path, text, output) {
  output.textContent = "Running.";
  try {
    const answer = await fetch(path, {
      method: "POST", body: text, headers: { "content-type": "application/json", ...headers() },
    });
    const body = await answer.text();
    let shown = body;
    try { shown = JSON.stringify(JSON.parse(body), null, 2); } catch { /* it is shown as it came */ }
    output.textContent = `${answer.status} ${answer.statusText}\n\n${shown}`;
  } catch (error) {
    output.textContent = `No answer came: ${error.message}`;
  }
}

function accessOf(operation) {
  if (operation.security.some((way) => !Object.keys(way).length)) return "public";
  const needed = operation.security.flatMap((way) => Object.values(way).flat());
  return needed.length ? [...new Set(needed)].join(", ") : "authenticated";
}

function filled(details, path, operation, root) {
  const content = operation.requestBody.content["application/json"];
  const schema = resolved(content.schema, root);
  const examples = Object.values(content.examples || {});
  const value = examples.length ? examples[0].value : sample(schema, root);
  const label = element("label", {}, "Arguments ");
  const area = element("textarea", { spellcheck: "false" });
  area.value = JSON.stringify(value, null, 2);
  label.append(area);
  const output = element("pre", { role: "status" });
  const button = element("button", { type: "button" }, "Run");
  button.addEventListener("click", () => run(path, area.value, output));
  const body = element("div", { class: "body" });
  if (operation.description) body.append(element("p", {}, operation.description));
  body.append(parameterTable(schema, root), label, button, output);
  details.append(body);
}

function operationOf(path, operation, root) {
  const details = element("details", { "data-name": operation.operationId.toLowerCase() });
  details.append(element("summary", {},
    element("code", {}, operation.operationId),
    element("span", {}, operation.summary || ""),
    element("span", { class: "who" }, accessOf(operation))));
  details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector(".body")) filled(details, path, operation, root);
  });
  return details;
}

async function read() {
  let root;
  try {
    const answer = await fetch("openapi.json", { headers: headers() });
    root = await answer.json();
    if (!answer.ok) throw new Error(root.detail);
  } catch (error) {
    note.textContent = `It cannot be read: ${error.message}`;
    return;
  }
  const operations = Object.entries(root.paths)
    .filter(([, item]) => item.post)
    .map(([path, item]) => [`.${path}`, item.post]);
  packs.replaceChildren();
  for (const tag of root.tags) {
    const section = element("section", {}, element("h2", {}, tag.name));
    if (tag.description) section.append(element("p", {}, tag.description));
    for (const [path, operation] of operations) {
      if (operation.tags.includes(tag.name)) section.append(operationOf(path, operation, root));
    }
    packs.append(section);
  }
  const hint = credential ? "" : " With an API key or a token there may be more.";
  note.textContent = `${operations.length} actions that you may run.${hint}`;
  find();
}

function find() {
  const wanted = document.getElementById("filter").value.toLowerCase();
  for (const details of packs.querySelectorAll("details")) details.hidden = !details.dataset.name.includes(wanted);
  for (const section of packs.children) section.hidden = !section.querySelector("details:not([hidden])");
}

document.getElementById("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  credential = document.getElementById("credential").value.trim();
  read();
});
document.getElementById("filter").addEventListener("input", find);
read();
