// What the scripts have in common: what they were told, plain fetch, and answers as they are printed.

export const told = JSON.parse(process.argv[2]);

const AUTH = "/api/v1/auth";

/** Asks gatelet, and keeps the whole answer. */
export async function call(method, path, { key, bearer, body } = {}) {
  const headers = {};
  if (key) headers["x-api-key"] = key;
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  if (body) headers["content-type"] = "application/json";
  const answer = await fetch(told.url + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  return {
    request: `${method} ${path} ${JSON.stringify(headers)} ${JSON.stringify(body) ?? ""}`,
    status: answer.status,
    headers: [...answer.headers],
    text,
  };
}

/** POSTs to one of gatelet's own routes. */
export const auth = (route, body, key = told.key) => call("POST", AUTH + route, { key, body });

/** What a good answer says; a bad one ends the script. */
export function said(answer) {
  if (answer.status >= 300) throw new Error(`${answer.request}: ${answer.status} ${answer.text}`);
  return JSON.parse(answer.text);
}

/** Signs in with what `prove` makes of the answer to `POST /nonce`, and visits the portfolio. */
export async function signIn(address, chainId, prove) {
  const nonce = await auth("/nonce", { address, chainId });
  const verify = await auth("/verify", await prove(said(nonce)));
  const bearer = said(verify).accessToken;
  const { key, portfolio } = told;
  return {
    nonce,
    verify,
    both: await call("GET", portfolio, { key, bearer }),
    withoutKey: await call("GET", portfolio, { bearer }),
    withoutToken: await call("GET", portfolio, { key }),
    withoutEither: await call("GET", portfolio),
  };
}

export const print = (result) => console.log(JSON.stringify(result));
