import { io } from "socket.io-client";

const socket = io(url, { auth: { token } });
socket.on("headline", (data, { room, sender }) => show(`${sender} in ${room}: ${data.text}`));
socket.on("gap", () => show("something was missed: ask for the present state"));
socket.on("closing", ({ code, reason }) => show(`the server closes: ${reason} (${code})`));
socket.on("connect_error", (error) => show(`refused: ${error.message} ${error.data?.code}`));
socket.on("connect", async () => {
  const { error } = await socket.emitWithAck("join", { room: "news" }); // again after every reconnection
  if (error) show(`${error.code}: ${error.message}`);
  await socket.emitWithAck("emit", { room: "news", event: "headline", data: { text: "Hello" } });
});
