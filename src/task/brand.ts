/**
 * Whether a value is of a class, by a symbol that all copies of this package share. A handlers project with
 * `node_modules` of its own, a bundle and CommonJS beside ESM each have a copy, and `instanceof` alone knows only its
 * own. Never throws, even if reading the value's fields throws.
 */
export function hasBrand(value: unknown, brand: symbol): boolean {
  try {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[brand] === true
  } catch {
    return false
  }
}

/**
 * `Symbol.hasInstance` of a class with a brand: the class itself uses the brand, its subclasses their prototype.
 *
 * @param asked the class on the right of `instanceof`
 */
export function isInstance(value: unknown, asked: object, branded: object, brand: symbol): boolean {
  return asked === branded ? hasBrand(value, brand) : Function.prototype[Symbol.hasInstance].call(asked, value)
}
