/** One line of comma-separated values, as `--mount` and `--network` take it: a field in double quotes may hold commas. @module */

export function splitFields(line: string): string[] {
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    let field = "";
    if (line[at] === '"') {
      at++;
      for (;;) {
        const quote = line.indexOf('"', at);
        if (quote < 0) throw new Error(`parse error on line 1, column ${line.length + 1}: extraneous or missing " in quoted-field`);
        field += line.slice(at, quote);
        at = quote + 1;
        if (line[at] !== '"') break;
        field += '"';
        at++;
      }
      if (at < line.length && line[at] !== ",") throw new Error(`parse error on line 1, column ${at}: extraneous or missing " in quoted-field`);
    } else {
      const comma = line.indexOf(",", at);
      field = line.slice(at, comma < 0 ? undefined : comma);
      const quote = field.indexOf('"');
      if (quote >= 0) throw new Error(`parse error on line 1, column ${at + quote + 1}: bare " in non-quoted-field`);
      at += field.length;
    }
    fields.push(field);
    if (at >= line.length) return fields;
    at++;
  }
}
