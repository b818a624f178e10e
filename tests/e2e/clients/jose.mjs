// Verifies an access token as an API in Node would, with keys fetched from gatelet.
import { createRemoteJWKSet, jwtVerify } from "jose";
import { print, told } from "./call.mjs";

const { url, token, algorithm } = told;
const keys = createRemoteJWKSet(new URL(`${url}/.well-known/jwks.json`));
const { payload, protectedHeader } = await jwtVerify(token, keys, {
  issuer: url,
  audience: "api",
  typ: "at+jwt",
  algorithms: [algorithm],
  requiredClaims: ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "scope", "amr", "client_id"],
});

print({ header: protectedHeader, claims: payload });
