// What a page holds of a sign-in: the access token, in a variable and nowhere else.
//
// The refresh token is in a cookie that no script sees; the browser adds it to /refresh and /logout. So nothing of a
// sign-in is in reach of a script that reads storage, and a page that was loaded anew asks for the next access token.

const AUTH = "/api/v1/auth";

/** An answer that is not what was asked for. */
class Refused extends Error {
  constructor(exchange) {
    super(exchange.said?.detail ?? `${exchange.method} ${exchange.path} was answered ${exchange.status}`);
    this.exchange = exchange;
  }
}

export class Session {
  #base;
  #apiKey;
  #onExchange;
  #accessToken = null;
  #refreshing = null;

  /**
   * `base` is gatelet's origin where that is not the page's own. `onExchange` is told of each request and its answer,
   * but for the secrets in both.
   */
  constructor({ base = "", apiKey, onExchange = () => {} }) {
    this.#base = base;
    this.#apiKey = apiKey;
    this.#onExchange = onExchange;
  }

  /** `{ subject, lifetime, expiresAt, claims }` of the access token, or null; the times are this machine's milliseconds. */
  held = null;

  /** Proves an account: a nonce, its signature, and with that the tokens. */
  async signIn({ address, sign }) {
    const wanted = { address, domain: location.host };
    const nonce = await this.#own("/nonce", { shown: ["API key"], body: wanted });
    const { message } = this.#good(nonce).said;
    const signature = await sign(message);
    // The cookie that comes has to be kept.
    const verified = await this.#own("/verify", { shown: ["API key"], body: { message, signature }, cookie: true });
    this.#hold(this.#good(verified).said);
  }

  /**
   * Asks the API with the key and the access token. An answer of 401 is not the end: the token may have run out on the
   * way, so the next is fetched, and the request is made once more.
   */
  async ask(path) {
    const token = this.#accessToken;
    const answer = await this.#exchange("GET", path, { shown: ["API key", "access token"], token });
    if (answer.status !== 401) return this.#good(answer);
    // Another request may have fetched it meanwhile.
    if (this.#accessToken === token) await this.refresh();
    const again = { shown: ["API key", "access token"], token: this.#accessToken };
    return this.#good(await this.#exchange("GET", path, again));
  }

  /** Fetches the next access token by the cookie; at most one such request is under way. */
  refresh() {
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #refresh() {
    const answer = await this.#own("/refresh", { shown: ["refresh cookie"], cookie: true });
    // Whoever is told 401 here has to sign in again; after anything else the next try may do.
    if (answer.status === 401) this.#drop();
    this.#hold(this.#good(answer).said);
  }

  /** Ends the sign-in, wherever it is used. */
  async logOut() {
    this.#good(await this.#own("/logout", { shown: ["refresh cookie"], cookie: true }));
    this.#drop();
  }

  /** Logs out, and then shows the API the token that was held until then: the answer to that. */
  async logOutAndTry(path) {
    const token = this.#accessToken;
    await this.logOut();
    return this.#exchange("GET", path, { shown: ["API key", "old access token"], token });
  }

  #hold({ accessToken, expiresIn, subject }) {
    this.#accessToken = accessToken;
    // By how long it lives: the clocks here and there may differ.
    const lifetime = expiresIn * 1000;
    this.held = { subject, lifetime, expiresAt: Date.now() + lifetime, claims: claimsOf(accessToken) };
  }

  #drop() {
    this.#accessToken = null;
    this.held = null;
  }

  #good(answer) {
    if (answer.status >= 300) throw new Refused(answer);
    return answer;
  }

  #own(route, options) {
    return this.#exchange("POST", AUTH + route, options);
  }

  async #exchange(method, path, { shown, token, body, cookie }) {
    const headers = {};
    if (shown.includes("API key")) headers["x-api-key"] = this.#apiKey;
    if (token) headers.authorization = `Bearer ${token}`;
    if (body) headers["content-type"] = "application/json";
    const answer = await fetch(this.#base + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: cookie ? "include" : "omit",
      cache: "no-store",
    });
    const text = await answer.text();
    const said = text && JSON.parse(text);
    const exchange = { method, path, shown, status: answer.status, said };
    this.#onExchange(exchange);
    return exchange;
  }
}

/** What an access token says, to be shown; only the API can rely on it, which gatelet tells. */
function claimsOf(token) {
  const base64 = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}
