export interface SqlStatement {
  text: string;
  /** Line of the file on which it starts, from 1. */
  line: number;
}

/**
 * Splits a script at the semicolons that end statements: not those in strings, quoted names,
 * comments, dollar quotes, parentheses or `begin atomic` bodies. Pieces that hold nothing but
 * comments are left out.
 */
export function splitStatements(script: string): SqlStatement[] {
  // Each token swallows whatever may contain a semicolon that means nothing.
  const token =
    /--[^\n]*|\/\*[\s\S]*?\*\/|\be'(?:\\[\s\S]|''|[^'\\])*'|'(?:''|[^'])*'|"(?:""|[^"])*"|(\$(?:[a-z_\u0080-\uffff][a-z0-9_\u0080-\uffff]*)?\$)[\s\S]*?\1|\b(?:begin\s+atomic|case|end)\b|[a-z_$0-9]+|\s+|[\s\S]/gi;
  const statements: SqlStatement[] = [];
  let line = 1;
  let text = "";
  let startLine = 1;
  let hasContent = false;
  let parentheses = 0;
  // Open `begin atomic` and, inside it, `case`: both are closed by `end`.
  let blocks = 0;
  const finish = () => {
    if (hasContent) statements.push({ text: text.trim(), line: startLine });
    text = "";
    hasContent = false;
    parentheses = 0;
    blocks = 0;
  };
  for (const [piece] of script.matchAll(token)) {
    const blank = /^(?:\s|--|\/\*)/.test(piece);
    if (!blank && !hasContent && piece !== ";") {
      hasContent = true;
      startLine = line;
      text = "";
    }
    line += piece.split("\n").length - 1;
    if (piece === "(") parentheses++;
    else if (piece === ")") parentheses--;
    else if (/^begin\s/i.test(piece)) blocks++;
    else if (blocks > 0 && /^case$/i.test(piece)) blocks++;
    else if (blocks > 0 && /^end$/i.test(piece)) blocks--;
    else if (piece === ";" && parentheses <= 0 && blocks === 0) {
      finish();
      continue;
    }
    text += piece;
  }
  finish();
  return statements;
}
