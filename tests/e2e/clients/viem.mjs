// Signs in with a local account of viem: the offered message, signed as it is.
// Told `form: "wallet"`, it sends its address and the nonce back instead of the message.
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { parseSiweMessage } from "viem/siwe";
import { print, signIn, told } from "./call.mjs";

const account = privateKeyToAccount(generatePrivateKey());
let parsed;

const visits = await signIn(account.address, told.chainId, async ({ message, nonce }) => {
  parsed = parseSiweMessage(message);
  const signature = await account.signMessage({ message });
  return told.form === "wallet" ? { wallet: account.address, nonce, signature } : { message, signature };
});

print({ address: account.address, parsed, ...visits });
