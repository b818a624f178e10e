// An application server fetches a session for a user with its API key; the user's device has nothing but the token.
import { call, print, said, told } from "./call.mjs";

const { key, otherKey, path } = told;
const own = "/api/v1/auth";

const server = {
  begin: (body) => call("POST", `${own}/sessions`, { key, body }),
  end: (id, by = key) => call("DELETE", `${own}/sessions/${id}`, { key: by }),
};
const begun = await server.begin({ subject: told.subject, metadata: { device: "phone" } });
const { clientSessionToken: bearer, sessionId } = said(begun);

const device = {
  use: () => call("GET", path, { bearer }),
  ask: () => call("GET", `${own}/session`, { bearer }),
};
const expiry = ({ headers }) => Number(Object.fromEntries(headers)["x-session-expires-at"]);

const first = await device.use();
const shown = await device.ask();
// The expiry is in whole seconds: it has moved by the time of a later use that is a second away.
let later = first;
const end = Date.now() + 5_000;
while (!(expiry(later) > expiry(first)) && Date.now() < end) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  later = await device.use();
}

print({
  begun,
  first,
  shown,
  later,
  endedByStranger: await server.end(sessionId, otherKey),
  afterStranger: await device.use(),
  ended: await server.end(sessionId),
  afterEnd: await device.use(),
  shownAfterEnd: await device.ask(),
});
