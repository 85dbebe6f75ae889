/// One page that shows runs beside each other: it needs nothing but itself.
public struct ReportPage {
    private let runs: [RunReport]

    public init(_ runs: [RunReport]) { self.runs = runs }

    /// HTML. The numbers are JSON in it; the page's script puts names into text nodes only, so that none can become markup.
    public var html: String {
        let data = runs.map { Self.inert(String(decoding: $0.json(), as: UTF8.self)) }.joined(separator: ",")
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta http-equiv="Content-Security-Policy" \
            content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
            <link rel="icon" href="data:,">
            <title>Registry benchmark</title>
            <style>
            \(pageStyle)
            </style>
            </head>
            <body>
            <main id="page"><noscript>This page draws its plots with a script of its own.</noscript></main>
            <script type="application/json" id="runs">[\(data)]</script>
            <script>
            \(pageChartScript)
            \(pageScript)
            </script>
            </body>
            </html>

            """
    }

    /// JSON that can stand inside a script element, whatever its strings hold.
    private static func inert(_ json: String) -> String {
        json.reduce(into: "") { text, character in
            switch character {
            case "<": text += "\\u003c"
            case ">": text += "\\u003e"
            case "&": text += "\\u0026"
            case "\u{2028}": text += "\\u2028"
            case "\u{2029}": text += "\\u2029"
            default: text.append(character)
            }
        }
    }
}
