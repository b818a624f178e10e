// Two kinds of wallet: the browser's own (EIP-1193), and a key that the page makes and forgets.
//
// Each is `{ address, sign(message) }`, where `sign` is personal_sign (EIP-191).

import { getPublicKey, signAsync, utils } from "./vendor/noble-secp256k1/index.js";
import { keccak_256 as keccak256 } from "./vendor/noble-hashes/sha3.js";

const bytes = (text) => new TextEncoder().encode(text);
const hex = (octets) => Array.from(octets, (octet) => octet.toString(16).padStart(2, "0")).join("");

/** Whether the browser has a wallet of its own. */
export const isThere = () => typeof window.ethereum?.request === "function";

/** The account that the browser's wallet offers; its owner is asked. */
export async function browsersOwn() {
  const { ethereum } = window;
  const [address] = await ethereum.request({ method: "eth_requestAccounts" });
  const sign = (message) => ethereum.request({ method: "personal_sign", params: [`0x${hex(bytes(message))}`, address] });
  return { address, sign };
}

/** A new account that is gone with the page. */
export function throwAway() {
  const secret = utils.randomSecretKey();
  const address = `0x${hex(keccak256(getPublicKey(secret, false).slice(1)).slice(-20))}`;
  const sign = async (message) => {
    const content = bytes(message);
    const prefix = bytes(`\x19Ethereum Signed Message:\n${content.length}`);
    const digest = keccak256(new Uint8Array([...prefix, ...content]));
    const [recovery, ...signature] = await signAsync(digest, secret, { prehash: false, format: "recovered" });
    return `0x${hex(signature)}${hex([27 + recovery])}`;
  };
  return { address, sign };
}
