// A wallet with accounts of its own. A line of JSON asks, a line of JSON answers:
// {} makes an account and is answered [index, address]; {account, message} is answered its signature.
import { createInterface } from "node:readline";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const accounts = [];

for await (const line of createInterface({ input: process.stdin })) {
  const { account, message } = JSON.parse(line);
  let answer;
  if (message === undefined) {
    const made = privateKeyToAccount(generatePrivateKey());
    answer = [accounts.push(made) - 1, made.address];
  } else {
    answer = await accounts[account].signMessage({ message });
  }
  console.log(JSON.stringify(answer));
}
