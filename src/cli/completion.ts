import { Argument, Command } from 'commander'
import { ON_FAILURE } from '../task/flow.ts'
import { STATUSES } from '../task/status.ts'
import { print, withExamples } from './output.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

/** `xqueue completion`: a completion script, generated from the commands. */
export function completionCommand(program: Command): Command {
  const command = new Command('completion')
    .description('print a completion script for your shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .action((shell: Shell) => print(SCRIPTS[shell](program)))
  return withExamples(
    command,
    'source <(xqueue completion bash)',
    'source <(xqueue completion zsh)',
    'xqueue completion fish > ~/.config/fish/completions/xqueue.fish',
  )
}

/** The names of the types come from the server that the user works with; without one there are none. */
const TYPES = '$(xqueue types --names 2>/dev/null)'
/** What completes the value of an option. */
const VALUES: Readonly<Record<string, string>> = {
  '--status': STATUSES.join(' '),
  '--type': TYPES,
  '--on-failure': ON_FAILURE.join(' '),
}
/** Commands whose first argument is the name of a type. */
const OF_TYPE = ['submit', 'declare', 'limit', 'pause', 'resume']

const SCRIPTS: Record<Shell, (program: Command) => string> = {
  bash: (program) => `_xqueue() {
  local words previous="\${COMP_WORDS[COMP_CWORD-1]}"
  case "$previous" in
${Object.entries(VALUES)
  .map(
    ([flag, words]) => `    ${flag}) COMPREPLY=($(compgen -W "${words}" -- "\${COMP_WORDS[COMP_CWORD]}")); return ;;`,
  )
  .join('\n')}
  esac
  case "\${COMP_WORDS[1]}" in
${program.commands.map((command) => `    ${command.name()}) words="${wordsAfter(command).join(' ')}" ;;`).join('\n')}
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="${program.commands.map((command) => command.name()).join(' ')} --help --version"
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _xqueue xqueue`,
  zsh: (program) => `autoload -U +X bashcompinit && bashcompinit
${SCRIPTS.bash(program)}`,
  fish: (program) =>
    program.commands
      .flatMap((command) => {
        const name = command.name()
        const ofCommand = `complete -c xqueue -n '__fish_seen_subcommand_from ${name}'`
        const values = (long: string | undefined) =>
          VALUES[long ?? ''] === undefined ? '' : ` -x -a ${quote(VALUES[long ?? '']!.replace('$(', '('))}`
        return [
          `complete -c xqueue -n __fish_use_subcommand -a ${name} -d ${quote(command.description())}`,
          ...command.commands.map((sub) => `${ofCommand} -a ${sub.name()} -d ${quote(sub.description())}`),
          ...(OF_TYPE.includes(name) ? [`${ofCommand} -a ${quote(TYPES.replace('$(', '('))}`] : []),
          ...command.options.map(
            (option) => `${ofCommand} -l ${option.name()} -d ${quote(option.description)}${values(option.long)}`,
          ),
        ]
      })
      .join('\n'),
}

/** The words that may follow a command: its subcommands, types where it takes one, and flags. */
function wordsAfter(command: Command): string[] {
  const subcommands = command.commands.map((sub) => sub.name())
  const types = OF_TYPE.includes(command.name()) ? [TYPES] : []
  return [...subcommands, ...types, ...command.options.flatMap(({ long }) => long ?? []), '--help']
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "\\'")}'`
}
