// The browser's client of Base04's WebSocket protocol (docs/websocket.md). It needs nothing but a WebSocket.
//
//   import { connect } from "/static/base04.js";
//   const client = connect({ token: async () => (await fetch("/my/token")).text() });
//   client.on("event", ({ room, event, data, sender }) => ...);
//   await client.join("news", { presence: true });
//   await client.emit("news", "headline", { n: 1 });

const SUBPROTOCOL = "base04.v1";
const SERVER_CLOSED = 1000;
const FAULTS = new Set([1002, 1003, 1007, 1009, 4400]); // of the client: doing it again would change nothing
const OTHER_TOKEN = new Set([4401, 4410, 4411]);
const PASSING = new Set(["rate_limited", "unavailable"]); // refusals after which the same may be asked again
const STABLE_MS = 5000; // a connection that lasted so long was a good one: the next pauses begin small again

/** What was refused, or could not be known. `code` is one of the protocol's, or `closed`, `timeout` or `lost`. */
export class Base04Error extends Error {
  constructor(code, message, details = {}) {
    super(message);
    this.name = "Base04Error";
    this.code = code;
    this.details = details;
  }
}

/** Open a client that connects at once. See the constructor of `Base04Client` for the options. */
export function connect(options) {
  return new Base04Client(options).open();
}

export class Base04Client {
  #options;
  #listeners = new Map();
  #rooms = new Map();
  #pending = new Map();
  #waiting = [];
  #number = 0;
  #socket = null;
  #ready = false;
  #ended = false;
  #token = null;
  #refusedToken = null;
  #pause = 0;
  #after = null;
  #openedAt = 0;
  #timers = { reconnect: null, ping: null, silence: null, renew: null, greeting: null };
  #online = () => this.#timers.reconnect !== null && this.#connectSoon(0);

  /**
   * @param {object} options
   * @param {string | ((why: {code: number | null}) => string | Promise<string>)} options.token an access token, or how to
   *   get one; asked again for every connection, and ahead of the end of the one before
   * @param {string} [options.url] the endpoint; `/ws` on the page's own host unless told otherwise
   * @param {number} [options.minPause] ms before the second try to connect; doubles with every further one
   * @param {number} [options.maxPause] ms between tries at most
   * @param {number} [options.timeout] ms after which an answer is not waited for any longer
   * @param {number} [options.pingInterval] ms of silence after which the server is asked whether it is there
   * @param {number} [options.renewBefore] ms before a token ends at which another one is asked for
   * @param {typeof WebSocket} [options.WebSocket] the class to connect with
   */
  constructor(options) {
    const url = options.url ?? new URL("/ws", globalThis.location.href).href.replace(/^http/, "ws");
    this.#options = {
      minPause: 500,
      maxPause: 30000,
      timeout: 15000,
      pingInterval: 25000,
      renewBefore: 30000,
      WebSocket: globalThis.WebSocket,
      ...options,
      url,
    };
  }

  sid = null;
  userId = null;

  get connected() {
    return this.#ready;
  }

  /** The rooms that the client is in, or wants to be in once it is connected. */
  get rooms() {
    return [...this.#rooms.keys()];
  }

  /** The users in a room that was joined with `presence`, sorted. */
  users(room) {
    return [...(this.#rooms.get(room)?.users ?? [])].sort();
  }

  /**
   * Listen, and get a function that ends it. Kinds: `open`, `close`, `event`, `presence`, `gap`, `error`, `end`.
   * `gap` says that events of a room are missing: ask for the present state. `end` says that the client gave up.
   */
  on(kind, listener) {
    if (!this.#listeners.has(kind)) this.#listeners.set(kind, new Set());
    this.#listeners.get(kind).add(listener);
    return () => this.#listeners.get(kind).delete(listener);
  }

  /** Begin to connect, and to come back whenever the connection is lost. */
  open() {
    globalThis.addEventListener?.("online", this.#online);
    this.#connect();
    return this;
  }

  /** End the client. What waits for an answer is refused. */
  close() {
    this.#end(SERVER_CLOSED, "closed by the page");
  }

  /** Enter a room and stay in it over reconnections. Resolves to `{users, recovered}` once the server has let us in. */
  join(room, { presence = false } = {}) {
    const known = this.#rooms.get(room);
    const state = known ?? { presence, position: null, users: new Set(), joined: false, answers: [] };
    state.presence ||= presence;
    this.#rooms.set(room, state);
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(new Base04Error("closed", "The client is closed."));
      state.answers.push({ resolve, reject });
      if (this.#ready) this.#enter(room, state);
    });
  }

  async leave(room) {
    const state = this.#rooms.get(room);
    this.#rooms.delete(room);
    for (const { reject } of state?.answers ?? []) reject(new Base04Error("closed", `The room ${room} was left.`));
    if (this.#ready) await this.#ask({ type: "leave", room });
  }

  /** Send an event to a room, or with `null` for the room to the server's handler, and return the answer. */
  emit(room, event, data = null, { timeout } = {}) {
    return this.#ask({ type: "emit", room: room ?? undefined, event, data }, timeout);
  }

  /** Run an action as the token's user and return its result. */
  call(action, args = {}, { timeout } = {}) {
    return this.#ask({ type: "call", action, args }, timeout);
  }

  /** Go on with another token of the same user, without a new connection. */
  async renew(token) {
    this.#token = token;
    if (this.#ready) await this.#ask({ type: "auth", token });
    this.#renewInTime();
  }

  // Connecting

  async #connect() {
    this.#clear("reconnect");
    const { token, url, WebSocket, timeout } = this.#options;
    let fresh;
    try {
      fresh = typeof token === "function" ? await token({ code: this.#refusedToken?.code ?? null }) : (this.#token ?? token);
    } catch (error) {
      this.#tell("error", new Base04Error("token", `No token could be had: ${error}`));
      return this.#connectSoon(this.#nextPause());
    }
    if (this.#ended || this.#socket !== null) return;
    if (fresh === this.#refusedToken?.token) return this.#end(this.#refusedToken.code, "there is no other token");
    this.#token = fresh;
    const socket = new WebSocket(url, [SUBPROTOCOL, `bearer.${fresh}`]);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#socket === socket && this.#take(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#socket === socket && this.#lost(code, reason);
    // Not every WebSocket tells the end of a connection that never was; where it does, it does so at once.
    socket.onerror = () => setTimeout(() => this.#socket === socket && this.#lost(1006, "there is no connection"));
    this.#timers.greeting = setTimeout(() => this.#drop("the server does not answer"), timeout);
  }

  #connectSoon(ms) {
    this.#clear("reconnect");
    if (!this.#ended) this.#timers.reconnect = setTimeout(() => this.#connect(), ms);
  }

  #nextPause() {
    const { minPause, maxPause } = this.#options;
    this.#pause = Math.min(maxPause, this.#pause ? this.#pause * 2 : minPause);
    return this.#pause * (0.5 + Math.random() / 2);
  }

  #drop(reason) {
    const socket = this.#socket;
    if (socket === null) return;
    this.#lost(1006, reason);
    socket.close();
  }

  #lost(code, reason) {
    const lasted = this.#ready && Date.now() - this.#openedAt >= STABLE_MS;
    const told = this.#after;
    this.#socket = null;
    this.#ready = false;
    this.#after = null;
    this.#clear("ping", "silence", "renew", "greeting");
    for (const state of this.#rooms.values()) state.joined = false;
    this.#refusePending(new Base04Error("lost", "The connection was lost: whether this was done cannot be known."));
    if (this.#ended) return;
    if (OTHER_TOKEN.has(code)) this.#refusedToken = { token: this.#token, code };
    const fixed = OTHER_TOKEN.has(code) && typeof this.#options.token !== "function";
    if (code === SERVER_CLOSED || FAULTS.has(code) || fixed) return this.#end(code, reason);
    if (lasted) this.#pause = 0;
    const pause = told ?? this.#nextPause();
    this.#tell("close", { code, reason, pause });
    this.#connectSoon(pause);
  }

  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    globalThis.removeEventListener?.("online", this.#online);
    const socket = this.#socket;
    this.#lost(code, reason);
    this.#clear("reconnect");
    socket?.close();
    const error = new Base04Error("closed", `The client has ended: ${reason || code}.`);
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    for (const state of this.#rooms.values()) for (const { reject } of state.answers.splice(0)) reject(error);
    this.#tell("end", { code, reason });
  }

  // Messages

  #take(message) {
    this.#hear();
    switch (message.type) {
      case "auth_ok":
        return message.id === null ? this.#greeted(message) : this.#answer(message.id, message);
      case "ack":
        return this.#answer(message.id, message.result);
      case "error":
        return this.#refuse(message.id, message.error);
      case "event":
        return this.#event(message);
      case "gap":
        return this.#gap(message.room, { epoch: message.epoch, offset: message.offset });
      case "presence":
        return this.#presence(message);
      case "reconnect":
        this.#after = message.after * 1000;
    }
  }

  #greeted({ sid, user_id }) {
    this.#clear("greeting");
    Object.assign(this, { sid, userId: user_id });
    this.#ready = true;
    this.#refusedToken = null;
    this.#openedAt = Date.now();
    this.#renewInTime();
    for (const [room, state] of this.#rooms) this.#enter(room, state);
    for (const { message, timeout, resolve, reject } of this.#waiting.splice(0)) this.#send(message, timeout, resolve, reject);
    this.#tell("open", { sid, userId: user_id });
  }

  async #enter(room, state) {
    const since = state.joined ? undefined : (state.position ?? undefined);
    const returning = state.entered && !state.joined;
    const answers = state.answers.splice(0);
    let found;
    try {
      found = await this.#ask({ type: "join", room, since, presence: state.presence || undefined });
    } catch (error) {
      if (error.code === "lost") return void state.answers.unshift(...answers); // the next connection asks again
      for (const { reject } of answers) reject(error);
      if (error.code !== "timeout") this.#keptOut(room, state, error);
      return;
    }
    Object.assign(state, { joined: true, entered: true });
    const position = found?.epoch ? { epoch: found.epoch, offset: found.offset } : null;
    const recovered = !returning || found?.recovered === true;
    if (!recovered) this.#gap(room, position ?? state.position);
    else if (position) state.position = position;
    if (found?.users) {
      state.users = new Set(found.users);
      this.#tell("presence", { room, event: "users", users: this.users(room) });
    }
    for (const { resolve } of answers) resolve({ users: this.users(room), recovered });
  }

  /** Enter a room again later that we were in, where that may help, else forget it. */
  #keptOut(room, state, error) {
    const still = () => this.#rooms.get(room) === state;
    if (state.entered && PASSING.has(error.code)) {
      const sid = this.sid;
      const again = () => still() && this.#ready && this.sid === sid && this.#enter(room, state);
      setTimeout(again, (error.details.retry_after ?? 1) * 1000);
    } else if (still()) {
      this.#rooms.delete(room);
      if (state.entered) this.#tell("error", error);
    }
  }

  #event({ room, event, data, sender, epoch, offset }) {
    const state = this.#rooms.get(room);
    if (state && offset !== undefined) {
      const { position } = state;
      if (position?.epoch === epoch && offset <= position.offset) return; // it came before
      if (position && (position.epoch !== epoch || offset > position.offset + 1)) this.#gap(room, null);
      state.position = { epoch, offset };
    }
    this.#tell("event", { room, event, data, sender, epoch, offset });
  }

  #gap(room, position) {
    const state = this.#rooms.get(room);
    if (state && position) state.position = position;
    this.#tell("gap", { room });
  }

  #presence({ room, event, user_id }) {
    const users = this.#rooms.get(room)?.users;
    if (event === "join") users?.add(user_id);
    if (event === "leave") users?.delete(user_id);
    this.#tell("presence", { room, event, userId: user_id, users: this.users(room) });
  }

  // Asking

  #ask(message, timeout = this.#options.timeout) {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(new Base04Error("closed", "The client is closed."));
      if (this.#ready) return this.#send(message, timeout, resolve, reject);
      const waiting = { message, timeout, resolve, reject };
      this.#waiting.push(waiting);
      setTimeout(() => {
        const place = this.#waiting.indexOf(waiting);
        if (place < 0) return;
        this.#waiting.splice(place, 1);
        reject(new Base04Error("timeout", "There was no connection in time: nothing was sent."));
      }, timeout);
    });
  }

  #send(message, timeout, resolve, reject) {
    const id = ++this.#number;
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      reject(new Base04Error("timeout", "No answer came in time: whether this was done cannot be known."));
    }, timeout);
    this.#pending.set(id, { resolve, reject, timer });
    this.#socket.send(JSON.stringify({ ...message, id }));
  }

  #answer(id, result) {
    const asked = this.#forget(id);
    asked?.resolve(result);
  }

  #refuse(id, { code, message, ...details }) {
    const error = new Base04Error(code, message, details);
    const asked = id === null ? undefined : this.#forget(id);
    if (asked) asked.reject(error);
    else this.#tell("error", error);
  }

  #forget(id) {
    const asked = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(asked?.timer);
    return asked;
  }

  #refusePending(error) {
    for (const id of [...this.#pending.keys()]) this.#forget(id).reject(error);
  }

  // Time

  #hear() {
    const { pingInterval, timeout } = this.#options;
    this.#clear("ping", "silence");
    this.#timers.ping = setTimeout(() => {
      this.#socket?.send('{"type":"ping"}');
      this.#timers.silence = setTimeout(() => this.#drop("the server is silent"), timeout);
    }, pingInterval);
  }

  #renewInTime() {
    this.#clear("renew");
    const end = endOf(this.#token);
    if (end === null || typeof this.#options.token !== "function") return;
    const left = end - Date.now();
    const pause = Math.min(Math.max(left - this.#options.renewBefore, left / 2), 2 ** 31 - 1);
    this.#timers.renew = setTimeout(async () => {
      try {
        const token = await this.#options.token({ code: null });
        if (token !== this.#token) await this.renew(token);
      } catch (error) {
        this.#tell("error", error);
      }
    }, pause);
  }

  #clear(...names) {
    for (const name of names) {
      clearTimeout(this.#timers[name]);
      this.#timers[name] = null;
    }
  }

  #tell(kind, value) {
    for (const listener of [...(this.#listeners.get(kind) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        globalThis.reportError ? globalThis.reportError(error) : console.error(error);
      }
    }
  }
}

/** When a token ends, in ms since the epoch, as far as it can be read; the server decides. */
function endOf(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Number.isFinite(claims.exp) ? claims.exp * 1000 : null;
  } catch {
    return null;
  }
}
