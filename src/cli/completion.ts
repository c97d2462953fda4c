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
/** What completes the value of an option, beside the choices that it has itself. */
const VALUES: Readonly<Record<string, string>> = {
  '--status': STATUSES.join(' '),
  '--type': TYPES,
  '--on-failure': ON_FAILURE.join(' '),
}

const SCRIPTS: Record<Shell, (program: Command) => string> = {
  bash: (program) => `_xqueue() {
  local words previous="\${COMP_WORDS[COMP_CWORD-1]}" command="\${COMP_WORDS[1]}"
  case "$previous" in
${[...valuesOf(program)]
  .map(
    ([flag, words]) => `    ${flag}) COMPREPLY=($(compgen -W "${words}" -- "\${COMP_WORDS[COMP_CWORD]}")); return ;;`,
  )
  .join('\n')}
  esac
  [ "$COMP_CWORD" -gt 2 ] && command="$command \${COMP_WORDS[2]}"
  case "$command" in
${program.commands
  .flatMap((command) => [...command.commands.map((sub) => bashCase(`"${command.name()} ${sub.name()}"`, sub))])
  .join('\n')}
${program.commands.map((command) => bashCase(`${command.name()}|"${command.name()} "*`, command)).join('\n')}
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="${program.commands.map((command) => command.name()).join(' ')} --help --version"
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _xqueue xqueue`,
  zsh: (program) => `autoload -U +X bashcompinit && bashcompinit
${SCRIPTS.bash(program)}`,
  fish: (program) => {
    const values = valuesOf(program)
    const seen = (name: string) => `__fish_seen_subcommand_from ${name}`
    const ofCommand = (command: Command, condition: string) => [
      ...(takesType(command) ? [`complete -c xqueue -n '${condition}' -a ${quote(inFish(TYPES))}`] : []),
      ...command.options.map((option) => {
        const words = values.get(option.long ?? '')
        const value = words === undefined ? '' : ` -x -a ${quote(inFish(words))}`
        return `complete -c xqueue -n '${condition}' -l ${option.name()} -d ${quote(option.description)}${value}`
      }),
    ]
    return program.commands
      .flatMap((command) => [
        `complete -c xqueue -n __fish_use_subcommand -a ${command.name()} -d ${quote(command.description())}`,
        ...ofCommand(command, seen(command.name())),
        ...command.commands.flatMap((sub) => [
          `complete -c xqueue -n '${seen(command.name())}' -a ${sub.name()} -d ${quote(sub.description())}`,
          ...ofCommand(sub, `${seen(command.name())}; and ${seen(sub.name())}`),
        ]),
      ])
      .join('\n')
  },
}

function bashCase(pattern: string, command: Command): string {
  const subcommands = command.commands.map((sub) => sub.name())
  const types = takesType(command) ? [TYPES] : []
  const words = [...subcommands, ...types, ...command.options.flatMap(({ long }) => long ?? []), '--help']
  return `    ${pattern}) words="${words.join(' ')}" ;;`
}

const takesType = (command: Command): boolean => command.registeredArguments.some((each) => each.name() === 'type')

/** The words that complete the value of an option, by its flag. */
function valuesOf(program: Command): Map<string, string> {
  const commands = program.commands.flatMap((command) => [command, ...command.commands])
  const chosen = commands.flatMap(({ options }) =>
    options.flatMap(({ long, argChoices }): [string, string][] =>
      long && argChoices ? [[long, argChoices.join(' ')]] : [],
    ),
  )
  return new Map([...chosen, ...Object.entries(VALUES)])
}

/** Fish has no `$` before a command that it runs in place. */
const inFish = (words: string): string => words.replace('$(', '(')

function quote(text: string): string {
  return `'${text.replaceAll("'", "\\'")}'`
}
