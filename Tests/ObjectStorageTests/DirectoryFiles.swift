import ObjectStorage
import System

func key(_ text: String) -> ObjectKey { try! ObjectKey(text) }  // Literals that are keys.

/// The names of all files below `root`, those of the store itself left out.
func files(_ root: String, _ below: String = "") throws -> [String] {
    var names: [String] = []
    for entry in try LocalFileSystem().entries(of: "\(root)/\(below)") where entry.name != ".forebay" {
        if entry.isDirectory {
            names += try files(root, "\(below)\(entry.name)/") + ["\(below)\(entry.name)/"]
        } else {
            names.append("\(below)\(entry.name)")
        }
    }
    return names.sorted()
}

func temporaryFiles(_ root: String) throws -> [String] {
    try LocalFileSystem().entries(of: "\(root)/.forebay/tmp").map(\.name)
}
