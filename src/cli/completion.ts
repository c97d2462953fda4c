import { Argument, Command } from 'commander'
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

const SCRIPTS: Record<Shell, (program: Command) => string> = {
  bash: (program) => `_xqueue() {
  local words
  case "\${COMP_WORDS[1]}" in
${program.commands.map((command) => `    ${command.name()}) words="${flags(command).join(' ')}" ;;`).join('\n')}
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
        return [
          `complete -c xqueue -n __fish_use_subcommand -a ${name} -d ${quote(command.description())}`,
          ...command.options.map((option) => `${ofCommand} -l ${option.name()} -d ${quote(option.description)}`),
        ]
      })
      .join('\n'),
}

function flags(command: Command): string[] {
  return [...command.options.flatMap(({ long }) => long ?? []), '--help']
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "\\'")}'`
}
