import { connect } from "/static/base04.js";

const client = connect({
  url: socketUrl, // `/ws` of the page's own host, where it is left out
  token: async ({ code }) => fetchToken(), // code: why the last one was refused, null otherwise
});
client.on("event", ({ room, event, data, sender }) => show(`${sender}: ${data.text}`));
client.on("presence", ({ room, users }) => show(`here: ${users.join(", ")}`));
client.on("gap", ({ room }) => show(`something in ${room} was missed: ask for the present state`));
client.on("close", ({ code, pause }) => show(`connection lost (${code}), next try in ${pause} ms`));
client.on("end", ({ code, reason }) => show(`gave up: ${reason} (${code})`));

await client.join("news", { presence: true });
await client.emit("news", "headline", { text: "Hello" });
