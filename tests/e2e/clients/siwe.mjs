// Signs in with a message that the siwe package composes of the fields of the answer to `POST /nonce`.
import { Wallet } from "ethers";
import { SiweMessage } from "siwe";
import { print, signIn, told } from "./call.mjs";

const wallet = Wallet.createRandom();
let parsed;

const visits = await signIn(undefined, undefined, async ({ nonce, domain, uri, version, statement }) => {
  parsed = new SiweMessage({ nonce, domain, uri, version, statement, address: wallet.address, chainId: told.chainId });
  const message = parsed.prepareMessage();
  return { message, signature: await wallet.signMessage(message) };
});

print({ address: wallet.address, parsed, ...visits });
