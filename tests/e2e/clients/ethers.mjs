// Signs in with a wallet of ethers, which names its address in lower case, as many do.
import { Wallet } from "ethers";
import { SiweMessage } from "siwe";
import { print, signIn, told } from "./call.mjs";

const wallet = Wallet.createRandom();
let parsed;

const visits = await signIn(wallet.address.toLowerCase(), told.chainId, async ({ message }) => {
  parsed = new SiweMessage(message);
  return { message, signature: await wallet.signMessage(message) };
});

print({ address: wallet.address, parsed, ...visits });
