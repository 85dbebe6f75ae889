extension RunReport {
    /// The runs, read from `files`, with labels that differ: to those that several have, their files' names are added, or when they started
    /// where the names are the same too.
    public static func toldApart(_ runs: [RunReport], files: [String]) -> [RunReport] {
        var result = runs
        for (label, indices) in Dictionary(grouping: runs.indices, by: { runs[$0].label }) where indices.count > 1 {
            let candidates = [
                indices.map { shortName(files[$0]) }, indices.map { files[$0] }, indices.map { runs[$0].startedAt },
            ]
            // One file given twice has nothing to tell apart but its place.
            let marks = candidates.first { Set($0).count == indices.count } ?? (1...indices.count).map { "no. \($0)" }
            for (index, mark) in zip(indices, marks) { result[index].label = "\(label) (\(mark))" }
        }
        return result
    }

    /// `old` of `runs/old.json`.
    private static func shortName(_ path: String) -> String {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        return name.hasSuffix(".json") && name.count > 5 ? String(name.dropLast(5)) : name
    }
}
