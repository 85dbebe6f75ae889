#pragma once
// The variadic functions of libmicrohttpd with fixed arguments, and the constants that Swift does not import.
#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>

struct forebay_mhd_options {
    unsigned int connection_limit;
    unsigned int idle_timeout_seconds;
    size_t connection_memory_bytes;
};

/// The target is read as it came: what libmicrohttpd would make of it is not looked at.
static size_t forebay_mhd_leave(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

/// A daemon without a thread and without a listening socket: its owner runs it and hands it connections.
static inline struct MHD_Daemon *forebay_mhd_start(
    const struct forebay_mhd_options *o, MHD_AccessHandlerCallback handler, MHD_RequestCompletedCallback completed,
    void *(*uri)(void *, const char *, struct MHD_Connection *), MHD_NotifyConnectionCallback connection, void *context)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, handler, context,
        MHD_OPTION_NOTIFY_COMPLETED, completed, context,
        MHD_OPTION_URI_LOG_CALLBACK, uri, context,
        MHD_OPTION_UNESCAPE_CALLBACK, forebay_mhd_leave, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, connection, context,
        // Without it, a daemon that has no threads of its own sends no file by sendfile(2).
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_CONNECTION_LIMIT, o->connection_limit,
        MHD_OPTION_CONNECTION_TIMEOUT, o->idle_timeout_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->connection_memory_bytes,
        MHD_OPTION_END);
}

static inline const struct sockaddr *forebay_mhd_client_address(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info ? info->client_addr : NULL;
}

static inline bool forebay_mhd_is_suspended(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_SUSPENDED);
    return info && info->suspended == MHD_YES;
}

static inline int forebay_mhd_socket(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static inline void forebay_mhd_set_idle_timeout(struct MHD_Connection *connection, unsigned int seconds)
{
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

/// Of the answer that is on its way; 0 when there is none.
static inline unsigned int forebay_mhd_status(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_HTTP_STATUS);
    return info ? info->http_status : 0;
}

/// Has the daemon's wait end when `descriptor` is readable; what is to be done then is its owner's to know. The daemon takes an event without a
/// connection for such a wake-up, as that of its own end.
static inline bool forebay_mhd_watch(struct MHD_Daemon *daemon, int descriptor)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    return info && epoll_ctl(info->epoll_fd, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

static const uint64_t forebay_mhd_size_unknown = MHD_SIZE_UNKNOWN;
static const ssize_t forebay_mhd_end_of_stream = MHD_CONTENT_READER_END_OF_STREAM;
static const ssize_t forebay_mhd_end_with_error = MHD_CONTENT_READER_END_WITH_ERROR;

// What glibc declares only under _GNU_SOURCE, here because sockets are met in this room alone.
extern int accept4(int listening, struct sockaddr *address, socklen_t *length, int flags);
