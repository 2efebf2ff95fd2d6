package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"

	"github.com/openai/openai-go/v3"
)

// Tool is something that the model may have done. Call gets the arguments as the
// model wrote them; an error is told to the model, which may try again.
type Tool struct {
	Name, Description string
	Parameters        map[string]any // JSON Schema
	Call              func(ctx context.Context, arguments json.RawMessage) (string, error)
}

// param is the tool as the model is told of it.
func (t Tool) param() openai.ChatCompletionToolUnionParam {
	return openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name: t.Name, Description: openai.String(t.Description), Parameters: openai.FunctionParameters(t.Parameters),
	})
}

// ownTools are the two that need nobody else.
func ownTools() []Tool {
	return []Tool{
		{
			Name: "calculator", Description: "Calculates an arithmetic expression with +, -, *, / and parentheses.",
			Parameters: object("expression", "for instance (2+3)*4"),
			Call: func(_ context.Context, arguments json.RawMessage) (string, error) {
				var in struct{ Expression string }
				if err := json.Unmarshal(arguments, &in); err != nil {
					return "", err
				}
				return calculate(in.Expression)
			},
		},
		{
			Name: "weather", Description: "Tells the weather.", Parameters: object("place", "where; leave it out for here"),
			Call: func(context.Context, json.RawMessage) (string, error) { return "sunny", nil },
		},
	}
}

// object is the schema of one text argument.
func object(argument, description string) map[string]any {
	return map[string]any{"type": "object", "properties": map[string]any{argument: map[string]any{"type": "string", "description": description}}}
}

// longestExpression keeps a model from writing a tree that takes long to walk.
const longestExpression = 1000

// calculate is exact: it reckons with fractions, not with floating point.
func calculate(expression string) (string, error) {
	if len(expression) > longestExpression {
		return "", fmt.Errorf("the expression is longer than %d characters", longestExpression)
	}
	tree, err := parser.ParseExpr(expression)
	if err != nil {
		return "", fmt.Errorf("%q is no arithmetic expression", expression)
	}
	value, err := evaluate(tree)
	if err != nil {
		return "", err
	}
	if value.Kind() == constant.Unknown {
		return "", fmt.Errorf("the result is too large")
	}
	return value.String(), nil
}

func evaluate(node ast.Expr) (constant.Value, error) {
	switch n := node.(type) {
	case *ast.ParenExpr:
		return evaluate(n.X)
	case *ast.BasicLit:
		if n.Kind == token.INT || n.Kind == token.FLOAT {
			return constant.ToFloat(constant.MakeFromLiteral(n.Value, n.Kind, 0)), nil
		}
	case *ast.UnaryExpr:
		if x, err := evaluate(n.X); err != nil || n.Op == token.SUB || n.Op == token.ADD {
			if err != nil {
				return nil, err
			}
			return constant.UnaryOp(n.Op, x, 0), nil
		}
	case *ast.BinaryExpr:
		x, err := evaluate(n.X)
		if err != nil {
			return nil, err
		}
		y, err := evaluate(n.Y)
		if err != nil {
			return nil, err
		}
		switch n.Op {
		case token.ADD, token.SUB, token.MUL:
			return constant.BinaryOp(x, n.Op, y), nil
		case token.QUO:
			if constant.Sign(y) == 0 {
				return nil, fmt.Errorf("a division by zero")
			}
			return constant.BinaryOp(x, n.Op, y), nil
		}
	}
	return nil, fmt.Errorf("only numbers, +, -, *, / and parentheses")
}
