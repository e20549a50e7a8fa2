// Ed25519 (RFC 8032) through WebCrypto, decided strictly.
//
// Of the readings that RFC 8032 leaves open the strict one is taken, so that no two verifiers differ: encodings must be canonical (y
// below p, S below L), and neither the key nor R may be of small order. WebCrypto checks the equation, without cofactor.

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
const Y_OF_ORDER_8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
// The y of the eight points whose order divides 8.
const SMALL_ORDER_YS = new Set([0n, 1n, P - 1n, Y_OF_ORDER_8, P - Y_OF_ORDER_8]);

// The runtime lacks what verifying needs: this says nothing about the receipt.
export class Unsupported extends Error {}

// Asks for a verification whose answer is known (RFC 8032, 7.1, test 1), once.
let checked;
export function assertSupported() {
  checked ??= knownSignatureHolds().then((holds) => {
    if (!holds) throw new Unsupported("this runtime has no Ed25519 in WebCrypto: Node 20, Chrome 137, Firefox 129 and Safari 17 have it");
  });
  return checked;
}

async function knownSignatureHolds() {
  const key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
  const signature =
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
  const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
  try {
    return await webCryptoVerifies(bytes(key), bytes(signature), new Uint8Array());
  } catch {
    return false;
  }
}

async function webCryptoVerifies(publicBytes, signature, message) {
  const key = await crypto.subtle.importKey("raw", publicBytes, { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);
}

export async function ed25519Verifies(publicBytes, signature, message) {
  if (signature.length !== 64 || littleEndian(signature.subarray(32)) >= L) return false;
  if (!isAcceptable(publicBytes) || !isAcceptable(signature.subarray(0, 32))) return false;
  return webCryptoVerifies(publicBytes, signature, message);
}

// True if the 32 bytes are a point of the curve, in whatever encoding: without that they are no key at all.
export function isPoint(encoded) {
  const y2 = littleEndian(encoded, 255n) ** 2n % P;
  // x^2 = (y^2 - 1) / (d y^2 + 1) has a root if this product, which differs from it by a square, is 0 or a square.
  const product = ((y2 + P - 1n) * (D * y2 + 1n)) % P;
  return product === 0n || power(product, (P - 1n) / 2n) === 1n;
}

function isAcceptable(encoded) {
  const y = littleEndian(encoded, 255n);
  return y < P && !SMALL_ORDER_YS.has(y);
}

function littleEndian(bytes, bits = 256n) {
  return BigInt.asUintN(Number(bits), bytes.reduceRight((number, byte) => (number << 8n) | BigInt(byte), 0n));
}

function power(base, exponent) {
  let result = 1n;
  for (; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % P;
    base = (base * base) % P;
  }
  return result;
}
