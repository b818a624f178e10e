// An application on axios: axios-auth-refresh exchanges the refresh token when a request is answered 401.
// Its refresh token is in a cookie jar, or, told `mode: "body"`, in a variable.
import axios from "axios";
import { createAuthRefresh } from "axios-auth-refresh";
import { wrapper } from "axios-cookiejar-support";
import { CookieJar } from "tough-cookie";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { print, told } from "./call.mjs";

const { url, key, mode, portfolio } = told;
const byBody = mode === "body";
const jar = new CookieJar();
const options = { baseURL: url, headers: { "x-api-key": key }, timeout: 10_000 };
const application = byBody ? axios.create(options) : wrapper(axios.create({ ...options, jar }));

const account = privateKeyToAccount(generatePrivateKey());
const nonce = await application.post("/api/v1/auth/nonce", { address: account.address });
const { message } = nonce.data;
const signature = await account.signMessage({ message });
const signedIn = await application.post("/api/v1/auth/verify", { message, signature, mode });
let { accessToken, refreshToken } = signedIn.data;
const held = await jar.getCookies(url.replace("http:", "https:"));

let refreshes = 0;
const tokens = new Set([accessToken]);

application.interceptors.request.use((request) => {
  request.headers.Authorization = `Bearer ${accessToken}`;
  return request;
});
createAuthRefresh(
  application,
  async () => {
    // Without the token that is over: only what refreshes is presented.
    const refresh = byBody ? axios.create(options) : wrapper(axios.create({ ...options, jar }));
    const answer = await refresh.post("/api/v1/auth/refresh", byBody ? { refreshToken } : undefined);
    ({ accessToken, refreshToken } = answer.data);
    tokens.add(accessToken);
    refreshes += 1;
  },
  // Otherwise what fails while a refresh runs is given up.
  { deduplicateRefresh: false },
);

// Twenty at a time, until two access tokens have run out under them.
const statuses = {};
const failures = [];
let bursts = 0;
const end = Date.now() + 15_000;
while (refreshes < 2 && Date.now() < end) {
  bursts += 1;
  const burst = Array.from({ length: 20 }, () => application.get(portfolio));
  for (const { status, value, reason } of await Promise.allSettled(burst)) {
    if (status === "rejected") failures.push(`${reason.message} ${JSON.stringify(reason.response?.data)}`);
    else statuses[value.status] = (statuses[value.status] ?? 0) + 1;
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
}

print({
  address: account.address,
  signedIn: signedIn.data,
  cookie: held.map(({ key, value, secure, httpOnly, sameSite, path }) => ({ key, value, secure, httpOnly, sameSite, path })),
  cookieNow: (await jar.getCookies(url.replace("http:", "https:"))).map(({ value }) => value),
  statuses,
  failures,
  bursts,
  refreshes,
  tokens: tokens.size,
});
