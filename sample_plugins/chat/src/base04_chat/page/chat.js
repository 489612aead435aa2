// The chat page: rooms, who is in them, and the lines that were missed.
import { connect } from "/static/base04.js";

const ROOM = "chat_";
const GUEST = "guest-";
const $ = (id) => document.getElementById(id);
const shown = (user) => user?.replace(GUEST, "") ?? "the server";

/** What the page has of each room: its lines, in order, none of them twice. */
const rooms = new Map();
let current = null;
let client = null;

async function ask(action, args, token) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(`/actions/${action}`, { method: "POST", headers, body: JSON.stringify(args) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body;
}

async function enter(name) {
  const first = (await ask("chat.enter", { name })).access_token;
  const tokens = [first];
  const token = async () => tokens.pop() ?? (await ask("chat.enter", { name })).access_token;
  client = connect({ token });
  client.on("open", () => status("connected", `connected as ${name}`));
  client.on("close", () => status("connecting", "connection lost, coming back"));
  client.on("end", ({ reason }) => status("ended", `ended: ${reason}`));
  client.on("event", ({ room, sender, data, epoch, offset }) => add(room, { sender, text: data.text, epoch, offset }));
  client.on("presence", ({ room }) => room === current && users());
  client.on("gap", ({ room }) => lost(room).catch(() => add(room, { note: "Some lines may be missing here." })));
  $("enter").hidden = true;
  $("chat").hidden = false;
  await join("lobby");
}

async function join(name) {
  const room = ROOM + name;
  if (!rooms.has(room)) {
    await client.join(room, { presence: true });
    rooms.set(room, []);
    await catchUp(room);
  }
  show(room);
}

/** Read what the server still has, on coming in and when lines may be missing; return whether some are. */
async function catchUp(room) {
  const lines = rooms.get(room);
  const newest = lines.findLast(({ offset }) => offset !== undefined);
  const { epoch, offset, lines: kept } = await client.call("chat.history", { room });
  for (const line of kept) add(room, { ...line, epoch });
  const next = newest?.epoch === epoch ? newest.offset + 1 : 1;
  return next < (kept[0]?.offset ?? offset + 1);
}

async function lost(room) {
  if (rooms.has(room) && (await catchUp(room))) add(room, { note: "Some lines are missing here." });
}

/** Put a line where it belongs: behind those of its epoch that came before it. */
function add(room, line) {
  const lines = rooms.get(room);
  if (!lines) return;
  const later = ({ epoch, offset }) => line.offset !== undefined && epoch === line.epoch && offset >= line.offset;
  const place = lines.findIndex(later);
  if (place >= 0 && lines[place].offset === line.offset) return;
  lines.splice(place < 0 ? lines.length : place, 0, line);
  if (room === current) render();
}

function show(room) {
  current = room;
  $("room").textContent = room.slice(ROOM.length);
  $("rooms").replaceChildren(
    ...[...rooms.keys()].map((name) => {
      const button = Object.assign(document.createElement("button"), { textContent: name.slice(ROOM.length) });
      button.setAttribute("aria-current", name === room);
      button.onclick = () => show(name);
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  render();
  users();
}

function render() {
  $("lines").replaceChildren(
    ...rooms.get(current).map(({ sender, text, note }) => {
      const item = document.createElement("li");
      if (note) return Object.assign(item, { className: "note", textContent: note });
      const name = Object.assign(document.createElement("b"), { textContent: shown(sender) });
      item.className = sender === client.userId ? "mine" : "";
      item.append(name, text);
      return item;
    }),
  );
  $("lines").lastElementChild?.scrollIntoView();
}

function users() {
  $("users").replaceChildren(
    ...client.users(current).map((user) => Object.assign(document.createElement("li"), { textContent: shown(user) })),
  );
}

function status(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
}

const forms = {
  enter: ({ name }) => enter(name).catch((error) => ($("refusal").textContent = error.message)),
  join: ({ room }) => join(room).catch((error) => add(current, { note: error.message })),
  say: ({ text }) => client.emit(current, "line", { text }).catch((error) => add(current, { note: error.message })),
};
for (const [id, submitted] of Object.entries(forms)) {
  $(id).onsubmit = (event) => {
    event.preventDefault();
    submitted(Object.fromEntries(new FormData(event.target)));
    if (id !== "enter") event.target.reset();
  };
}
