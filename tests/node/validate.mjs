// Validates documents against a JSON Schema with ajv: node validate.mjs SCHEMA POINTER DOCUMENTS
// DOCUMENTS is a JSON array of { name, document }; the output is a JSON object with the errors by name.
// POINTER names the schema inside a file of several ("#" for the file itself).
import { readFileSync } from "node:fs";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const [schemaFile, pointer, documentsFile] = process.argv.slice(2);
// The formats of Rust's integers are no part of JSON Schema; their ranges are given as well.
const ajv = new Ajv2020({ allErrors: true, strict: true, strictTypes: false });
addFormats(ajv);
for (const name of ["uint", "uint8", "uint16", "uint32", "uint64", "int64"]) ajv.addFormat(name, true);
const schema = JSON.parse(readFileSync(schemaFile, "utf8"));
ajv.addSchema(schema, "root");
const validate = ajv.getSchema(pointer === "#" ? "root" : `root${pointer}`);
const complaints = {};
for (const { name, document } of JSON.parse(readFileSync(documentsFile, "utf8"))) {
  if (!validate(document)) complaints[name] = ajv.errorsText(validate.errors);
}
process.stdout.write(JSON.stringify(complaints));
