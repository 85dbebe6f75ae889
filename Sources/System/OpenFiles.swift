internal import Glibc

/// Raises the limit on this process's open files as far as it may by itself (`getrlimit(2)`); the limit from now on.
public func raiseOpenFileLimit() -> Int {
    let resource = Int32(RLIMIT_NOFILE.rawValue)
    var limit = rlimit()
    precondition(getrlimit(resource, &limit) == 0, "getrlimit: \(String(cString: strerror(errno)))")
    var raised = limit
    raised.rlim_cur = limit.rlim_max
    if limit.rlim_cur < limit.rlim_max, setrlimit(resource, &raised) == 0 { limit = raised }
    return Int(clamping: limit.rlim_cur)
}
