/*
 * Loaded into a program (LD_PRELOAD), it appends every change of the files below DISK_SHIM_FOLDER to the file
 * DISK_SHIM_JOURNAL: names, writes, truncations, and the beginning and end of each sync. disk.ts makes of these the
 * folder as it can be after a loss of power at any moment. A sync takes up to DISK_SHIM_SYNC_US microseconds and
 * does nothing else: the journal knows what it has made durable.
 *
 * It is compiled without any header, so that a compiler alone is enough (disk-shim.ts). Several processes may append to
 * one journal: a record is one write with O_APPEND. A write is recorded after it was done, so a sync that began before
 * that is not known to include it.
 */
typedef unsigned long u64;
typedef unsigned int u32;

extern void *dlsym(void *, const char *);
extern int fileno(void *), fflush(void *), fstat(int, void *), dup(int), usleep(u32), getpid(void);
extern long lseek(int, long, int), readlink(const char *, char *, u64), read(int, void *, u64);
extern char *getenv(const char *), *getcwd(char *, u64);
extern u64 strlen(const char *), strtoul(const char *, char **, int);
extern int strncmp(const char *, const char *, u64), strcmp(const char *, const char *);
extern void *memcpy(void *, const void *, u64);
extern int snprintf(char *, u64, const char *, ...);

#define NEXT ((void *)-1L)
#define PATH_BYTES 4096
#define FDS 65536
#define RDONLY_CLOEXEC 02000000
#define APPEND_TO_JOURNAL (01 | 0100 | 02000 | 02000000) /* O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC */
#define TRUNCATES 01000
#define MAGIC 0x4b53494451584aceUL /* journal.ts finds the next entry by it after one that a kill has cut */

enum { OPEN = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR };
enum { OTHER, FOLLOWED, BUFFERED }; /* BUFFERED: a FILE, whose writes do not pass here */

struct head { u64 magic; u32 kind, pid; u64 file, at, length; };
struct piece { const void *base; u64 length; };

static int journal = -1;
/* A copy: Redis reuses the memory of its environment. */
static char folder[PATH_BYTES];
static u64 folder_length, sync_us;
static char state[FDS];

#define REAL(result, name, ...) \
  static result (*real_##name)(__VA_ARGS__); \
  if (!real_##name) real_##name = dlsym(NEXT, #name)

static void record(u32 kind, u64 file, u64 at, const void *bytes, u64 length) {
  REAL(long, writev, int, const struct piece *, int);
  struct head head;
  struct piece pieces[2];
  head.magic = MAGIC;
  head.kind = kind;
  head.pid = getpid();
  head.file = file;
  head.at = at;
  head.length = length;
  pieces[0].base = &head;
  pieces[0].length = sizeof head;
  pieces[1].base = bytes;
  pieces[1].length = length;
  real_writev(journal, pieces, 2);
}

static int is_on(void) {
  static int asked;
  if (!asked) {
    REAL(int, open64, const char *, int, u32);
    const char *path = getenv("DISK_SHIM_JOURNAL"), *of = getenv("DISK_SHIM_FOLDER");
    const char *us = getenv("DISK_SHIM_SYNC_US");
    asked = 1;
    if (path && of) {
      folder_length = snprintf(folder, PATH_BYTES, "%s", of);
      sync_us = us ? strtoul(us, 0, 10) : 0;
      journal = real_open64(path, APPEND_TO_JOURNAL, 0600);
    }
  }
  return journal >= 0;
}

/* Shared memory of SQLite is not on the disk. */
static int is_inside(const char *path) {
  u64 length = strlen(path);
  if (strncmp(path, folder, folder_length) != 0) return 0;
  if (path[folder_length] != '/' && path[folder_length] != 0) return 0;
  return length < 4 || strcmp(path + length - 4, "-shm") != 0;
}

static int is_followed(int fd) { return fd >= 0 && fd < FDS && state[fd] != OTHER; }

static u64 file_of(int fd) {
  u64 stat[64];
  fstat(fd, stat);
  return stat[1]; /* st_ino, on each 64-bit Linux */
}

/* The whole path; false for one outside of the folder. */
static int inside(const char *path, char *whole) {
  if (!is_on()) return 0;
  if (path[0] == '/') snprintf(whole, PATH_BYTES, "%s", path);
  else {
    char here[PATH_BYTES];
    if (!getcwd(here, PATH_BYTES)) return 0;
    snprintf(whole, PATH_BYTES, "%s/%s", here, path[0] == '.' && path[1] == '/' ? path + 2 : path);
  }
  return is_inside(whole);
}

static void opened(int fd, int flags, int how) {
  char link[64], path[PATH_BYTES];
  long length;
  if (fd < 0 || fd >= FDS || !is_on()) return;
  state[fd] = OTHER;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, PATH_BYTES - 1);
  if (length < 0) return;
  path[length] = 0;
  if (!is_inside(path)) return;
  state[fd] = how;
  record(OPEN, file_of(fd), (flags & TRUNCATES) != 0, path, length);
}

#define OPENS(name) \
  int name(const char *path, int flags, u32 mode) { \
    REAL(int, name, const char *, int, u32); \
    int fd = real_##name(path, flags, mode); \
    opened(fd, flags, FOLLOWED); \
    return fd; \
  }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
  int name(int at, const char *path, int flags, u32 mode) { \
    REAL(int, name, int, const char *, int, u32); \
    int fd = real_##name(at, path, flags, mode); \
    opened(fd, flags, FOLLOWED); \
    return fd; \
  }
OPENS_AT(openat)
OPENS_AT(openat64)

#define OPENS_BUFFERED(name) \
  void *name(const char *path, const char *mode) { \
    REAL(void *, name, const char *, const char *); \
    void *file = real_##name(path, mode); \
    if (file) opened(fileno(file), mode[0] == 'w' ? TRUNCATES : 0, BUFFERED); \
    return file; \
  }
OPENS_BUFFERED(fopen)
OPENS_BUFFERED(fopen64)

/* All that a buffered file has: its single writes are unknown. */
static void record_whole(int fd) {
  REAL(int, open64, const char *, int, u32);
  REAL(int, close, int);
  char link[64], bytes[65536];
  u64 file = file_of(fd), at = 0;
  long length;
  int copy;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  copy = real_open64(link, RDONLY_CLOEXEC, 0);
  while ((length = read(copy, bytes, sizeof bytes)) > 0) {
    record(WRITE, file, at, bytes, length);
    at += length;
  }
  record(TRUNCATE, file, at, 0, 0);
  real_close(copy);
}

int fclose(void *file) {
  REAL(int, fclose, void *);
  int fd = fileno(file);
  if (is_followed(fd)) {
    fflush(file);
    if (state[fd] == BUFFERED) record_whole(fd);
    state[fd] = OTHER;
  }
  return real_fclose(file);
}

int close(int fd) {
  REAL(int, close, int);
  if (is_followed(fd)) state[fd] = OTHER;
  return real_close(fd);
}

int dup2(int from, int to) {
  REAL(int, dup2, int, int);
  int fd = real_dup2(from, to);
  if (fd >= 0 && fd < FDS && from >= 0 && from < FDS) state[fd] = state[from];
  return fd;
}

static void wrote(int fd, const void *bytes, long length) {
  if (length > 0 && is_followed(fd)) record(WRITE, file_of(fd), lseek(fd, 0, 1) - length, bytes, length);
}

long write(int fd, const void *bytes, u64 length) {
  REAL(long, write, int, const void *, u64);
  long done = real_write(fd, bytes, length);
  wrote(fd, bytes, done);
  return done;
}

long writev(int fd, const struct piece *pieces, int count) {
  REAL(long, writev, int, const struct piece *, int);
  long done = 0;
  int at;
  if (!is_followed(fd)) return real_writev(fd, pieces, count);
  for (at = 0; at < count; at++) {
    long part = write(fd, pieces[at].base, pieces[at].length);
    if (part < 0) return done ? done : part;
    done += part;
    if ((u64)part < pieces[at].length) break;
  }
  return done;
}

#define WRITES_AT(name) \
  long name(int fd, const void *bytes, u64 length, long at) { \
    REAL(long, name, int, const void *, u64, long); \
    long done = real_##name(fd, bytes, length, at); \
    if (done > 0 && is_followed(fd)) record(WRITE, file_of(fd), at, bytes, done); \
    return done; \
  }
WRITES_AT(pwrite)
WRITES_AT(pwrite64)

#define TRUNCATES_FILE(name) \
  int name(int fd, long length) { \
    REAL(int, name, int, long); \
    int failed = real_##name(fd, length); \
    if (!failed && is_followed(fd)) record(TRUNCATE, file_of(fd), length, 0, 0); \
    return failed; \
  }
TRUNCATES_FILE(ftruncate)
TRUNCATES_FILE(ftruncate64)

#define TRUNCATES_PATH(name) \
  int name(const char *path, long length) { \
    REAL(int, name, const char *, long); \
    int failed = real_##name(path, length), fd; \
    char whole[PATH_BYTES]; \
    if (!failed && inside(path, whole) && (fd = open64(path, 0, 0)) >= 0) { \
      record(TRUNCATE, file_of(fd), length, 0, 0); \
      close(fd); \
    } \
    return failed; \
  }
TRUNCATES_PATH(truncate)
TRUNCATES_PATH(truncate64)

/* At least a quarter of the longest time, so that an answer that does not wait for it is early. */
static void take_time(void) {
  static u64 syncs;
  if (sync_us) usleep(sync_us / 4 + (++syncs * 2654435761UL >> 8) % (sync_us * 3 / 4 + 1));
}

/* The address of a variable of the thread marks the sync: several may be under way. */

#define SYNCS(name) \
  int name(int fd) { \
    REAL(int, name, int); \
    u64 file; \
    if (!is_followed(fd)) return real_##name(fd); \
    if (state[fd] == BUFFERED) record_whole(fd); \
    file = file_of(fd); \
    record(SYNC_BEGIN, file, (u64)&file, 0, 0); \
    take_time(); \
    record(SYNC_END, file, (u64)&file, 0, 0); \
    return 0; \
  }
SYNCS(fsync)
SYNCS(fdatasync)

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  int failed = real_rename(from, to);
  char paths[2 * PATH_BYTES], whole[PATH_BYTES];
  if (!failed && inside(from, paths) && inside(to, whole)) {
    u64 length = strlen(paths) + 1;
    memcpy(paths + length, whole, strlen(whole));
    record(RENAME, 0, 0, paths, length + strlen(whole));
  }
  return failed;
}

int unlink(const char *path) {
  REAL(int, unlink, const char *);
  int failed = real_unlink(path);
  char whole[PATH_BYTES];
  if (!failed && inside(path, whole)) record(UNLINK, 0, 0, whole, strlen(whole));
  return failed;
}

int mkdir(const char *path, u32 mode) {
  REAL(int, mkdir, const char *, u32);
  int failed = real_mkdir(path, mode);
  char whole[PATH_BYTES];
  if (!failed && inside(path, whole)) record(MKDIR, 0, 0, whole, strlen(whole));
  return failed;
}
