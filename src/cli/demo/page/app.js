// The page: buttons, what they bring about, and each request in words.

import { Session } from "./session.js";
import { browsersOwn, isThere, throwAway } from "./wallet.js";

const PORTFOLIO = "/api/v1/portfolio";
/** Of the requests, no more than these stay on the page. */
const MOST_LINES = 200;

const at = (id) => document.getElementById(id);
const session = new Session({ apiKey: document.body.dataset.apiKey, onExchange: tell });
let busy = false;

function element(name, text, ...classes) {
  const made = document.createElement(name);
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}

/** Adds a request and its answer to the list. */
function tell({ method, path, shown, status, said }) {
  const head = document.createElement("p");
  head.classList.add("head");
  const code = status >= 400 && said?.code ? `${status} ${said.code}` : `${status}`;
  head.append(
    element("span", code, "status", status < 400 ? "good" : "bad"),
    element("span", `${method} ${path}`, "request"),
    // What the page would have shown, had it been there, was not.
    ...(said?.code === "credential_missing" ? [] : shown).map((each) => element("span", each, "shown")),
  );
  const line = document.createElement("li");
  line.append(head, element("p", inWords(path, shown, status, said), "told"));
  const list = at("wire").firstElementChild;
  list.append(line);
  if (list.children.length > MOST_LINES) list.firstElementChild.remove();
  showLatest();
}

const showLatest = () => (at("wire").scrollTop = at("wire").scrollHeight);

function inWords(path, shown, status, said) {
  const route = path.split("/").at(-1);
  if (shown.includes("old access token")) {
    return status === 401
      ? "Its time had not come, but its sign-in is over, and so is the token."
      : "The token is still good.";
  }
  switch (`${route} ${status} ${status >= 400 ? said?.code : ""}`.trim()) {
    case "nonce 201":
      return "A message to sign. Its nonce is good once, for five minutes and with this API key.";
    case "verify 201":
      return `The signature is the wallet’s: an access token for ${said.expiresIn} s, and a refresh token in a cookie.`;
    case "portfolio 200":
      return "The API was told whose portfolio this is, and saw neither the key nor the token.";
    case "portfolio 401 token_expired":
      return "The access token has run out, so the page asks for the next one and tries again.";
    case "refresh 200":
      return "The next access token. The cookie was exchanged for its successor.";
    case "refresh 401 credential_missing":
      return "There is no cookie: nobody is signed in here.";
    case "refresh 401 refresh_invalid":
      return "This cookie is of a sign-in that is over, or of another demo.";
    case "logout 204":
      return "The sign-in is over, on the server at once, and the cookie is gone.";
    default:
      return said?.detail ?? "";
  }
}

/** What is known of the sign-in, on the page, and what went wrong, if anything did. */
function show(wrong) {
  const { held } = session;
  const known = held ? ["Signed in as ", element("span", held.subject, "address")] : ["Nobody is signed in."];
  const said = document.createElement("p");
  said.append(...known, wrong ? ` ${wrong}` : "");
  // What is the same is not said again, as a screen reader would.
  if (said.textContent !== at("status").textContent) at("status").replaceChildren(...said.childNodes);
  if (!held) {
    at("again").checked = false;
    at("positions").hidden = true;
  }
  at("sign-in-wallet").hidden = !isThere();
  at("sign-in-throw-away").classList.toggle("primary", !isThere());
  for (const id of ["sign-in-wallet", "sign-in-throw-away"]) at(id).disabled = busy || Boolean(held);
  for (const id of ["log-out", "fetch"]) at(id).disabled = busy || !held;
  at("again").disabled = !held;
  at("refresh").disabled = busy;
  at("claims").hidden = !held;
  at("claims").replaceChildren(
    ...Object.entries(held?.claims ?? {}).flatMap(([name, value]) => [
      element("dt", name),
      element("dd", claim(name, value)),
    ]),
  );
  countDown();
}

function claim(name, value) {
  if (["exp", "iat", "nbf"].includes(name)) return `${value}, ${new Date(value * 1000).toLocaleTimeString()}`;
  return [value].flat().join(" ");
}

function countDown() {
  const { held } = session;
  const left = held ? Math.max(0, held.expiresAt - Date.now()) : 0;
  at("left").max = held?.lifetime ?? 1;
  at("left").value = left;
  if (!held) at("life").textContent = "None.";
  else if (left > 0) at("life").textContent = `${Math.ceil(left / 1000)} s left.`;
  else at("life").textContent = "It has run out. The next request is answered 401, and the page refreshes.";
}

function showPositions({ owner, positions }) {
  at("owner").textContent = owner;
  const rows = positions.map(({ network, asset, quantity, valueUsd }) => {
    const row = document.createElement("tr");
    row.append(...[network, asset, quantity, valueUsd].map((each) => element("td", each)));
    return row;
  });
  at("positions").tBodies[0].replaceChildren(...rows);
  at("positions").hidden = false;
}

/** Does one thing at a time. `then` is the button that is likely to be next. */
async function act(work, then) {
  if (busy) return;
  busy = true;
  let wrong;
  // A button that is disabled loses the focus, and with it the place of whoever uses the keyboard.
  const focused = document.activeElement;
  show();
  try {
    await work();
  } catch (error) {
    // The list says it already of an answer; that there was no cookie is nothing that went wrong.
    if (error.exchange?.said?.code !== "credential_missing") wrong = error.message;
  }
  busy = false;
  show(wrong);
  if (focused instanceof HTMLButtonElement) (focused.disabled ? at(then) : focused).focus();
}

const fetchPortfolio = async () => showPositions((await session.ask(PORTFOLIO)).said);

const signInWith = (wallet) => act(async () => {
  await session.signIn(await wallet());
  await fetchPortfolio();
}, "fetch");

at("sign-in-wallet").addEventListener("click", () => signInWith(browsersOwn));
at("sign-in-throw-away").addEventListener("click", () => signInWith(throwAway));
at("fetch").addEventListener("click", () => act(fetchPortfolio, "sign-in-throw-away"));
at("refresh").addEventListener("click", () => act(() => session.refresh(), "sign-in-throw-away"));
at("log-out").addEventListener("click", () => act(() => session.logOutAndTry(PORTFOLIO), "sign-in-throw-away"));
setInterval(() => at("again").checked && act(fetchPortfolio, "fetch"), 5000);
setInterval(countDown, 250);
new ResizeObserver(showLatest).observe(at("wire"));
// Some wallets arrive after the page.
window.addEventListener("ethereum#initialized", () => show());

// Whoever was signed in when the page was left still is, by the cookie.
await act(async () => {
  await session.refresh();
  await fetchPortfolio();
}, "fetch");
