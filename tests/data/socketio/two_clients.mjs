// The official client of Socket.IO: ada listens at one address, bob speaks at another, and every step is a line of JSON.
import { io } from "socket.io-client";

const [where, elsewhere, token, path, transports] = process.argv.slice(2);
const say = (step, value) => console.log(JSON.stringify({ step, value }));
const fail = (reason) => {
  say("failed", String(reason));
  process.exit(1);
};
setTimeout(() => fail("nothing came in time"), 20000).unref();

const options = { auth: { token }, forceNew: true, path };
if (transports) options.transports = [transports];

const connected = (url, more) =>
  new Promise((resolve, reject) => {
    const socket = io(url, { ...options, ...more });
    socket.on("connect", () => resolve(socket));
    socket.on("connect_error", (error) => reject(error));
  });

const heard = (socket, event) => new Promise((resolve) => socket.once(event, (...all) => resolve(all)));

try {
  await connected(where, { auth: { token: "nonsense" }, reconnection: false }).then(
    () => fail("nonsense was let in"),
    (error) => say("refused", { message: error.message, data: error.data }),
  );
  const ada = await connected(where);
  const bob = await connected(elsewhere);
  say("connected", [typeof ada.id, typeof bob.id]);
  say("joined", [
    await ada.emitWithAck("join", { room: "news" }),
    await bob.emitWithAck("join", { room: "news" }),
  ]);
  say("forbidden", await ada.emitWithAck("join", { room: "user_somebody_else_" }));
  const headline = heard(ada, "headline");
  say("emitted", await bob.emitWithAck("emit", { room: "news", event: "headline", data: { n: [1, "zwei", null] } }));
  say("received", await headline);
  say("called", await ada.emitWithAck("call", { action: "no.such", args: {} }));
  const gone = heard(bob, "disconnect");
  bob.disconnect();
  say("gone", await gone);
  const reason = heard(ada, "disconnect");
  const closing = heard(ada, "closing");
  say("waiting", ada.io.engine.transport.name);
  // Who polls may find nobody listening any more, and then is not told why.
  say("closing", await Promise.race([closing.then(([told]) => told.code), reason.then(() => null)]));
  say("closed", (await reason)[0]);
  ada.disconnect();
} catch (error) {
  fail(error);
}
