// What Python says, for the page to be compared with. tests/page/test_page.py writes it and runs these tests.

import { readFileSync } from "node:fs";

export const fixtures = process.env.GGX_FIXTURES ? JSON.parse(readFileSync(process.env.GGX_FIXTURES, "utf8")) : null;
export const compared = { skip: fixtures === null ? "run by pytest tests/page, which writes what Python says" : false };
export const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
export const hex = (data) => [...data].map((each) => each.toString(16).padStart(2, "0")).join("");
