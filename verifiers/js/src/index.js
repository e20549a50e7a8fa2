// Verifies receipts, chains and bundles of Countersign, offline.
//
//   import { parseJwks, verify } from "countersign-verify";
//   const { verdict } = await verify(bundleBytes, await parseJwks(jwksBytes));
//   verdict === "ok"

export { canonical, digest, exchangeId } from "./canonical.js";
export { Unsupported } from "./ed25519.js";
export { UnusableKeys, parseJwks } from "./keys.js";
export { Refused, parse } from "./strict-json.js";
export { exitCode, verify } from "./verify.js";
